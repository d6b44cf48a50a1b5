import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from facemllm.core.errors import ConfigError, DatasetError
from facemllm.data.vocabularies import AGE_BINS
from facemllm.evaluation import evaluate, supported_tasks
from facemllm.evaluation.store import fingerprint

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
_oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_oracle)
Oracle, make_samples = _oracle.Oracle, _oracle.make_samples

EXPRESSIONS = ["happy", "sad", "angry"]


@pytest.fixture
def samples(tmp_path):
    labels = [
        {
            "expression": EXPRESSIONS[i % 3],
            "age": 20 + i,
            "gender": "female" if i % 2 else "male",
            "pose": {"pan": i - 30, "tilt": 5},
            "attributes": {"smiling": i % 3 == 0, "wearing_hat": i % 4 == 0},
        }
        for i in range(60)
    ]
    groups = [{"gender": label["gender"]} for label in labels]
    return make_samples(tmp_path, labels, groups=groups)


def run(model, samples, **options):
    return evaluate(model, samples, progress=False, **options)


def test_a_model_that_knows_scores_perfectly(samples):
    tasks = run(Oracle(samples), samples).tasks
    assert list(tasks) == ["expression", "age", "gender", "pose", "attributes"]
    for name in ("expression", "gender", "attributes"):
        assert tasks[name]["accuracy"] == tasks[name]["balanced_accuracy"] == tasks[name]["accuracy_all"] == 1
    assert tasks["age"]["mae"] == tasks["pose"]["mae_pan"] == tasks["pose"]["mae_tilt"] == 0
    assert tasks["attributes"]["n"] == 120
    assert tasks["attributes"]["images"] == 60


def test_a_model_that_is_wrong_scores_what_it_deserves(samples):
    def spoil(sample, question, text):
        swapped = {
            "happy": "sad",
            "sad": "happy",
            "male": "female",
            "female": "male",
            "yes": "no",
            "no": "yes",
        }
        return swapped.get(text, str(int(text) + 7) if text.isdigit() else text)

    tasks = run(Oracle(samples, spoil), samples).tasks
    assert tasks["gender"]["accuracy"] == tasks["attributes"]["accuracy"] == 0
    assert tasks["expression"]["accuracy"] == pytest.approx(1 / 3, abs=1e-5)
    assert tasks["age"]["mae"] == 7
    assert tasks["age"]["cs5"] == 0


def test_refusals_and_nonsense_are_counted_not_scored(samples):
    texts = {0: "I don't know.", 1: "asdf", 2: "happy or sad", 3: "34"}

    def spoil(sample, question, text):
        return texts.get(int(sample.id.split(".")[0]), text)

    result = run(Oracle(samples, spoil), samples, tasks=["expression"]).tasks["expression"]
    counts = {key: result[key] for key in ("n", "answered", "refused", "unparsed", "ambiguous", "wrong_type")}
    assert counts == {"n": 60, "answered": 56, "refused": 1, "unparsed": 1, "ambiguous": 1, "wrong_type": 1}
    assert result["accuracy"] == 1
    assert result["accuracy_all"] == pytest.approx(56 / 60, abs=1e-5)


def test_a_planted_bias_is_found(samples):
    def spoil(sample, question, text):
        return "angry" if sample.labels["gender"] == "female" else text

    column = run(Oracle(samples, spoil), samples, tasks=["expression"]).tasks["expression"]["by_group"][
        "columns"
    ]["gender"]
    assert column["gap"]["worst"] == "female"
    assert column["gap"]["significant"]
    fair = run(Oracle(samples), samples, tasks=["expression"]).tasks["expression"]["by_group"]["columns"][
        "gender"
    ]
    assert not fair["gap"]["significant"]


def test_age_bins_are_scored_from_years(tmp_path):
    samples = make_samples(tmp_path, [{"age_bin": AGE_BINS[i % 9]} for i in range(18)])
    [task] = supported_tasks(samples, ["age_bin"])
    assert task.name == "age"
    result = run(Oracle(samples, lambda s, q, text: text.rstrip("+")), samples).tasks["age"]
    assert result["accuracy"] == result["within_one_bin"] == 1
    assert "mae" not in result


def test_ethnicities_without_a_class_count_as_the_broader_one(tmp_path):
    given = ["asian", "other", "white"]
    samples = [
        s.model_copy(update={"dataset": "utkface"})
        for s in make_samples(tmp_path, [{"ethnicity": e} for e in given])
    ]
    said = {"asian": "southeast asian", "other": "latino", "white": "white"}
    result = run(Oracle(samples, lambda s, q, text: said[text]), samples).tasks["ethnicity"]
    assert result["accuracy"] == 1
    assert "latino as other" in result["notes"][0]


def test_sensitive_tasks_can_be_left_out(samples):
    assert "gender" not in run(Oracle(samples), samples, sensitive=False).tasks
    assert list(run(Oracle(samples), samples, tasks=["gender"], sensitive=False).tasks) == ["gender"]


def test_a_run_cut_off_goes_on_and_gives_the_same_report(samples, tmp_path):
    whole = run(Oracle(samples), samples, batch_size=8)
    calls = 0

    def dies(sample, question, text):
        nonlocal calls
        calls += 1
        if calls > 100:
            raise KeyboardInterrupt
        return text

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(Oracle(samples, dies), samples, batch_size=8, output_dir=out)
    kept = (out / "predictions.jsonl").read_bytes()
    assert 0 < kept.count(b"\n") < 60
    (out / "predictions.jsonl").write_bytes(kept + b'{"dataset": "made", "id": "59.pn')  # a line half written
    model = Oracle(samples)
    resumed = run(model, samples, batch_size=8, output_dir=out)
    assert sum(count for count, _ in model.asked) == 60 - kept.count(b"\n")
    assert without_times(resumed) == without_times(whole)
    again = Oracle(samples)
    assert without_times(run(again, samples, batch_size=8, output_dir=out)) == without_times(whole)
    assert again.asked == []


def test_answers_of_another_model_are_not_taken(samples, tmp_path):
    run(Oracle(samples), samples, tasks=["gender"], output_dir=tmp_path / "out")
    wrong = Oracle(samples, lambda s, q, text: "male", name="another")
    assert (
        run(wrong, samples, tasks=["gender"], output_dir=tmp_path / "out").tasks["gender"]["accuracy"] == 0.5
    )


def test_weights_are_part_of_a_fingerprint():
    layer = torch.nn.Linear(3, 3)
    before = fingerprint(layer)
    with torch.no_grad():
        layer.weight[2, 2] += 1e-3
    assert fingerprint(layer) != before
    assert fingerprint(layer, crop="face") != fingerprint(layer, crop="none")
    assert fingerprint(object()) != fingerprint(object())


def test_unreadable_pictures_are_counted_and_left_out(samples):
    Path(samples[3].image).write_text("not a picture")
    report = run(Oracle(samples), samples, tasks=["expression"])
    assert report.summary["unreadable"]["n"] == 1
    assert "3.png" in report.summary["unreadable"]["examples"]
    assert report.tasks["expression"]["n"] == 59


def test_pictures_without_a_face_are_counted(samples):
    class Faced(Oracle):
        def ask(self, image, questions, *, on_no_face="error"):
            assert on_no_face == "whole"
            rows = super().ask(image, questions)
            return [
                [SimpleNamespace(text=text, face=None if i % 2 else "a face") for text in row]
                for i, row in enumerate(rows)
            ]

    report = run(Faced(samples), samples, tasks=["expression"], batch_size=60)
    assert report.summary["no_face"] == 30


def test_heads_are_scored_beside_the_answers(samples):
    report = run(Oracle(samples), samples, tasks=["age", "gender"], with_heads=True)
    assert report.tasks["age"]["mae"] == 0
    assert report.tasks["age"]["head"]["mae"] == 1
    assert "head" not in report.tasks["gender"]


def test_limit_draws_from_everywhere(samples):
    report = run(Oracle(samples), samples, tasks=["expression"], limit=20)
    drawn = [int(record.sample.split(".")[0]) for record in report.records]
    assert len(drawn) == 20
    assert max(drawn) > 30
    assert drawn == sorted(drawn)


def test_what_cannot_be_evaluated_is_refused(samples):
    with pytest.raises(ConfigError, match="dataset does not support the task"):
        run(Oracle(samples), samples, tasks=["ethnicity"])
    with pytest.raises(ConfigError, match="cannot evaluate this model"):
        run(object(), samples)
    with pytest.raises(ConfigError, match="without root"):
        run(Oracle(samples), "utkface")
    with pytest.raises(DatasetError, match="more than once"):
        run(Oracle(samples), [samples[0], samples[0]])
    with pytest.raises(DatasetError, match="samples of one dataset"):
        run(Oracle(samples), [])

    class OneAnswer(Oracle):
        def ask(self, image, questions):
            return ["happy"] * len(image)

    with pytest.raises(ConfigError, match="do not fit the questions"):
        run(OneAnswer(samples), samples)


def test_report_is_saved_for_machines_and_people(samples, tmp_path):
    report = run(Oracle(samples), samples, with_heads=True)
    folder = report.save(tmp_path / "report")
    saved = json.loads((folder / "report.json").read_text())
    assert saved == json.loads(json.dumps(report.to_dict()))
    for key in ("n", "mae_pan", "mae_tilt", "refused", "unparsed"):
        assert key in saved["tasks"]["pose"]
    assert saved["config"]["questions"]["age"] == ["How old is this person?"]
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 60 * 6 + 60
    text = (folder / "report.md").read_text()
    assert "| expression | 60 | 60 | 0 |" in text
    assert "age (linear head)" in text
    plots = {path.name for path in (folder / "plots").iterdir()}
    assert {
        "expression_confusion.png",
        "age_scatter.png",
        "pose_pan_scatter.png",
        "age_by_gender.png",
    } <= plots
    assert all(f"(plots/{name})" in text for name in plots)


def without_times(report):
    return {key: value for key, value in report.to_dict().items() if key != "timing"}


class Chooser(Oracle):
    """Says what it knows, and believes it with a probability of 0.75."""

    def choose(self, image, question, options):
        return [
            [self._chosen(one, text, own) for text, own in zip(question, options, strict=True)]
            for one in image
        ]

    def _chosen(self, one, question, options):
        right = self._answer(self._sample(one), question)
        rest = 0.25 / (len(options) - 1)
        return {option: 0.75 if option == right else rest for option in options}


def test_likelihoods_are_scored_and_kept(samples, tmp_path):
    model = Chooser(samples)
    options = {"tasks": ["expression", "attributes"], "likelihoods": True, "output_dir": tmp_path / "out"}
    report = run(model, samples, **options)
    found = report.tasks["expression"]["likelihood"]
    assert found["accuracy"] == 1
    assert found["calibration"]["ece"] == pytest.approx(0.25, abs=1e-5)
    assert report.tasks["attributes"]["likelihood"]["n"] == 120
    again = Chooser(samples)
    again.choose = lambda *args: pytest.fail("asked again")
    assert without_times(run(again, samples, **options)) == without_times(report)
    with pytest.raises(ConfigError, match="model gives no likelihoods"):
        run(Oracle(samples), samples, likelihoods=True)


def test_who_is_refused_more_often_shows(samples):
    def spoil(sample, question, text):
        return "I can't tell." if sample.labels["gender"] == "female" else text

    result = run(Oracle(samples, spoil), samples, tasks=["expression"]).tasks["expression"]
    gap = result["answered_by_group"]["gender"]["gap"]
    assert gap["worst"] == "female"
    assert gap["significant"]
    assert "answered_by_group" not in run(Oracle(samples), samples, tasks=["expression"]).tasks["expression"]
