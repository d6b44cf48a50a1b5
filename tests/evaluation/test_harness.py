"""Our tasks and models in the harnesses of others. Where a harness is installed, it is run for real."""

import importlib
import importlib.util
import json
import math
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

from facemllm.cli.main import app
from facemllm.core.errors import ConfigError, DatasetError, FaceMLLMError
from facemllm.evaluation import evaluate, supported_tasks
from facemllm.evaluation.harness import lmms_tasks, make_rows, score_rows, write_lmms_tasks
from facemllm.evaluation.harness.check import Agreement, agreements, run_lmms_eval
from facemllm.evaluation.harness.lmms_model import FaceMLLMForLMMS
from facemllm.evaluation.harness.vlmevalkit import score_predictions, split_message, write_vlmevalkit_task

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
_oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_oracle)

BARE = FaceMLLMForLMMS.__mro__[1] is object  # lmms-eval is not installed beside us


class Loader(yaml.SafeLoader):
    """Reads task files as lmms-eval does: ``!function`` names a function of a module."""


def _function(loader, node):
    module, _, name = loader.construct_scalar(node).rpartition(".")
    return getattr(importlib.import_module(module), name)


Loader.add_constructor("!function", _function)


@pytest.fixture
def samples(tmp_path):
    labels = [
        {
            "expression": ["happy", "sad", "angry"][i % 3],
            "age": 20 + i % 40,
            "pose": {"pan": i % 60 - 30, "tilt": 5},
            "attributes": {"smiling": i % 3 == 0, "wearing_hat": i % 4 == 0},
        }
        for i in range(60)
    ]
    groups = [{"gender": "female" if i % 2 else "male"} for i in range(60)]
    return _oracle.make_samples(tmp_path, labels, groups=groups, identity=[f"p{i // 3}" for i in range(60)])


def spoil(sample, question, text):
    index = int(sample.id.split(".")[0])
    if index % 7 == 0:
        return "I can't tell."
    return {"happy": "sad", "yes": "no"}.get(text, text) if index % 5 == 0 else text


def run_yaml(path: Path, model) -> dict[str, float]:
    """Do what lmms-eval does with a task file: ask, process each result, aggregate each metric."""
    task = yaml.load(path.read_text(), Loader)
    data = path.with_name(task["dataset_kwargs"]["data_files"]["test"])
    docs = [json.loads(line) for line in data.read_text().splitlines()]
    kept = {metric["metric"]: [] for metric in task["metric_list"]}
    for doc in docs:
        [[text]] = model.ask(task["doc_to_visual"](doc), [doc[task["doc_to_text"]]])
        for metric, value in task["process_results"](doc, [text]).items():
            kept[metric].append(json.loads(json.dumps(value)))  # samples are logged as JSON
    return {one["metric"]: one["aggregation"](kept[one["metric"]]) for one in task["metric_list"]}


def test_task_files_score_as_our_own_evaluation(samples, tmp_path):
    model = _oracle.Oracle(samples, spoil)
    tasks = supported_tasks(samples)
    ours = evaluate(model, samples, progress=False).tasks
    names = write_lmms_tasks(samples, tasks, tmp_path / "tasks", prefix="mine")
    assert names == ["mine_expression", "mine_age", "mine_pose", "mine_attributes"]
    for name, task in zip(names, tasks, strict=True):
        theirs = run_yaml(tmp_path / "tasks" / f"{name}.yaml", model)
        found = agreements([name], [task], ours, {name: theirs})
        assert {one.metric for one in found} == set(lmms_tasks.metrics_of(task)) == set(theirs)
        assert all(one.agrees for one in found), found
        assert 0 < theirs["answered"] < 1
    assert ours["expression"]["accuracy"] < 1  # the spoiler made a difference
    group = yaml.safe_load((tmp_path / "tasks" / "mine.yaml").read_text())
    assert group == {"group": "mine", "task": names}


def test_a_different_score_is_noticed():
    assert not Agreement("a", "mae", 5.0, 5.0001).agrees
    assert not Agreement("a", "mae", 5.0, None).agrees


def test_nothing_answered_is_no_score(samples):
    [task] = supported_tasks(samples, ["age"])
    answered = [lmms_tasks.keep(row, ["I don't know."])["mae"] for row in make_rows(samples, task)]
    assert math.isnan(lmms_tasks.mae(answered))
    assert lmms_tasks.answered(answered) == 0


def test_rows_carry_groups_and_people(samples):
    [task] = supported_tasks(samples, ["expression"])
    model = _oracle.Oracle(samples, spoil)
    ours = evaluate(model, samples, tasks=["expression"], progress=False).tasks["expression"]
    rows = list(make_rows(samples, task))
    texts = [model.ask(lmms_tasks.picture(row), [row["question"]])[0][0] for row in rows]
    theirs = score_rows(list(zip(rows, texts, strict=True)))
    for key in ("by_group", "intervals", "shares"):
        assert theirs[key] == ours[key]
    with pytest.raises(DatasetError, match="cannot score these answers"):
        score_rows([])


def test_what_cannot_be_written_is_refused(samples, tmp_path):
    tasks = supported_tasks(samples, ["age"])
    with pytest.raises(ConfigError, match="cannot write tasks for lmms-eval"):
        write_lmms_tasks(samples, tasks, tmp_path, prefix="a/b")
    with pytest.raises(ConfigError, match="cannot write a task for VLMEvalKit"):
        write_vlmevalkit_task(samples, tasks[0], tmp_path, "a/b")


def test_vlmevalkit_answers_are_scored_by_their_rows(samples, tmp_path):
    [task] = supported_tasks(samples, ["expression"])
    model = _oracle.Oracle(samples, spoil)
    table = write_vlmevalkit_task(samples, task, tmp_path / "lmu", "faces")
    lines = [line.split("\t") for line in table.read_text().splitlines()]
    assert lines[0] == ["index", "image_path", "question", "answer", "attribute"]
    said = {
        int(index): model.ask(lmms_tasks.picture({"image": image}), [question])[0][0]
        for index, image, question, *_ in lines[1:]
    }
    ours = evaluate(model, samples, tasks=["expression"], progress=False).tasks["expression"]
    theirs = score_predictions(tmp_path / "lmu" / "faces.rows.jsonl", said)
    assert theirs["accuracy"] == ours["accuracy"] < 1
    assert theirs["refused"] == ours["refused"] > 0
    said.pop(3)
    with pytest.raises(DatasetError, match="answers do not fit the task"):
        score_predictions(tmp_path / "lmu" / "faces.rows.jsonl", said)
    with pytest.raises(ConfigError, match="cannot show these pictures"):
        split_message([{"type": "text", "value": "Who?"}])


# --- the model plug-in


def request(question, picture, index, **options):
    settings = {"max_new_tokens": 8, "until": ["\n\n"], "do_sample": False} | options
    return SimpleNamespace(args=(question, settings, lambda doc: [doc["image"]], index, "t", "test"))


@pytest.fixture
def plugin(samples):
    class Counted(_oracle.Oracle):
        def ask(self, image, questions, **options):
            if isinstance(questions, str):
                return super().ask([image], [questions])[0][0]
            return super().ask(image, questions)

        def choose(self, image, question, options, **_):
            right = self._answer(self._sample(image), question)
            rest = 0.1 / (len(options) - 1)
            return {option: 0.9 if option == right else rest for option in options}

    model = FaceMLLMForLMMS(Counted(samples), batch_size=4, device="cpu")
    model.task_dict = {"t": {"test": [{"image": lmms_tasks.picture({"image": s.image})[0]} for s in samples]}}
    return model


def test_plugin_is_declared():
    found = [point for point in entry_points(group="lmms_eval.models") if point.name == "facemllm"]
    if not found:
        pytest.skip("facemllm is not installed, only on the path: it has no entry points")
    assert found[0].value == "facemllm.evaluation.harness.lmms_model:manifest"
    assert callable(found[0].load())


def test_plugin_reads_a_picture_once_for_all_its_questions(plugin):
    asked = ["How old is this person?", "What is the expression of this person?"]
    requests = [request(question, None, index) for question in asked for index in range(6)]
    requests.sort(key=lambda one: one.args[3])
    answers = plugin.generate_until(requests)
    assert answers[:4] == ["20", "happy", "21", "sad"]
    # 12 questions about 6 pictures, 4 pictures a batch: two calls
    assert plugin.model.asked == [(4, tuple(asked)), (2, tuple(asked))]


def test_plugin_keeps_the_order_of_requests_and_stops_where_told(plugin):
    requests = [
        request("How old is this person?", None, 5),
        request("What is the expression of this person?", None, 1, until=["a"]),
        request("How old is this person?", None, 1),
    ]
    assert plugin.generate_until(requests) == ["25", "s", "21"]


def test_plugin_chooses_the_likeliest_option(plugin):
    question = "What is the expression of this person?"
    see = lambda doc: [doc["image"]]  # noqa: E731
    requests = [
        SimpleNamespace(args=(question, f" {option}", see, index, "t", "test"))
        for index in (0, 1)
        for option in ("happy", "sad", "angry")
    ]
    losses = [loss for loss, _ in plugin.loglikelihood(requests)]
    greedy = [said for _, said in plugin.loglikelihood(requests)]
    assert losses[0] == min(losses[:3])
    assert losses[4] == min(losses[3:])
    assert greedy == [True, False, False, False, True, False]
    with pytest.raises(ConfigError, match="likelihood of an answer by itself"):
        plugin.loglikelihood(requests[:1])


@pytest.mark.parametrize("options", [{"do_sample": True, "temperature": 0.7}, {"num_beams": 4}])
def test_plugin_refuses_what_it_cannot_do(plugin, options):
    with pytest.raises(ConfigError, match="cannot answer as the task asks"):
        plugin.generate_until([request("How old is this person?", None, 0, **options)])
    with pytest.raises(ConfigError, match="several rounds"):
        plugin.generate_until_multi_round([])
    with pytest.raises(ConfigError, match="cannot use model_args"):
        FaceMLLMForLMMS(plugin.model, speed="high")
    two = SimpleNamespace(args=("Who?", {}, lambda doc: [doc["image"]] * 2, 0, "t", "test"))
    with pytest.raises(ConfigError, match="cannot show these pictures"):
        plugin.generate_until([two])


@pytest.mark.skipif(not BARE, reason="lmms-eval is installed")
def test_manifest_says_what_is_missing():
    from facemllm.core.errors import MissingExtraError
    from facemllm.evaluation.harness.lmms_model import manifest

    with pytest.raises(MissingExtraError, match="lmms-eval"):
        manifest()


# --- the command, and the harnesses themselves


def arguments(kind, root, out, *more):
    return [
        "harness",
        kind,
        "--dataset",
        "utkface",
        "--root",
        str(root / "utkface"),
        "--out",
        str(out),
        *more,
    ]


def test_command_writes_tasks_and_says_how_to_run_them(faces_root, tmp_path):
    result = CliRunner().invoke(app, arguments("lmms-eval", faces_root, tmp_path / "t", "--task", "age"))
    assert result.exit_code == 0, result.output
    assert "--tasks facemllm_utkface_all_age --include_path" in result.stdout
    assert (tmp_path / "t" / "facemllm_utkface_all_age.yaml").is_file()
    result = CliRunner().invoke(app, arguments("vlmevalkit", faces_root, tmp_path / "v", "--limit", "5"))
    assert "facemllm_utkface_all_gender" in result.stdout
    assert len((tmp_path / "v" / "facemllm_utkface_all_age.tsv").read_text().splitlines()) == 6
    result = CliRunner().invoke(app, arguments("helm", faces_root, tmp_path / "v"))
    assert isinstance(result.exception, ConfigError)


def test_a_harness_that_fails_is_not_a_score(tmp_path):
    with pytest.raises(FaceMLLMError, match="the harness failed"):
        run_lmms_eval(sys.executable, tmp_path, ["no_such_task"])
    with pytest.raises(ConfigError, match="cannot run the harness"):
        run_lmms_eval(str(tmp_path / "python"), tmp_path, ["age"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "package", "variable"),
    [
        ("lmms-eval", "lmms_eval", "FACEMLLM_LMMS_EVAL_PYTHON"),
        ("vlmevalkit", "vlmeval", "FACEMLLM_VLMEVALKIT_PYTHON"),
    ],
)
def test_the_harness_gives_our_score(faces_root, tmp_path, kind, package, variable):
    python = os.environ.get(variable)
    if python is None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed here, and {variable} names no Python that has it")
    result = CliRunner().invoke(
        app,
        arguments(kind, faces_root, tmp_path / "t", "--task", "age", "--task", "gender", "--check",
                  python or sys.executable),
    )  # fmt: skip
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    assert result.stdout.count(", equal") >= 6
    assert "DIFFERENT" not in result.stdout
