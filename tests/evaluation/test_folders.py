"""A folder's report is not replaced by another run's, unless told; the same run goes on."""

import importlib.util
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facemllm.core.errors import ConfigError
from facemllm.evaluation import evaluate
from facemllm.evaluation.models import EVALUATED

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
_oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_oracle)
Oracle = _oracle.Oracle


@pytest.fixture
def samples(tmp_path):
    (tmp_path / "faces").mkdir()
    labels = [{"expression": ["happy", "sad"][i % 2], "age": 20 + i} for i in range(8)]
    return _oracle.make_samples(tmp_path / "faces", labels)


@pytest.fixture
def run(samples, tmp_path):
    def evaluated(model=None, faces=None, *, overwrite=False, **options):
        model = model or Oracle(samples)
        report = evaluate(
            model,
            faces or samples,
            output_dir=tmp_path / "out",
            progress=False,
            overwrite=overwrite,
            **options,
        )
        report.save(tmp_path / "out", plots=False, faces="none")
        return model

    return evaluated


def test_the_same_run_and_one_with_more_tasks_go_on(run):
    run(tasks=["age"])
    assert run(tasks=["age"]).asked == []
    again = run(tasks=["age", "expression"])
    assert sum(count for count, _ in again.asked) == 8
    assert run(tasks=["age", "expression"], with_heads=True).asked[:1] != [], "the head was not asked yet"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": "another"}, "answers of another model about made; a report of model 'Oracle'"),
        ({"dataset": "others"}, "answers about made; a report of dataset 'made'"),
        ({"limit": 4}, "a report of limit None"),
        ({"split": "test"}, "a report of split 'all'"),
        ({"tasks": ["age"]}, "a report that also has expression"),
    ],
)
def test_another_run_is_refused_and_replaces_only_if_told(run, samples, tmp_path, changed, said):
    run()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    options = dict(changed)
    model = Oracle(samples, name=options.pop("model", "oracle"))
    dataset = options.pop("dataset", "made")
    faces = [sample.model_copy(update={"dataset": dataset}) for sample in samples]
    with pytest.raises(ConfigError, match="folder holds another run") as error:
        run(model, faces, **options)
    assert said in str(error.value)
    assert "--overwrite" in str(error.value)
    assert model.asked == []
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    run(model, faces, overwrite=True, **options)
    assert run(model, faces, **options)  # now it is this run's folder
    kept = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert {line["dataset"] for line in kept} == {dataset}
    assert len({line["model"] for line in kept}) == 1


def test_an_interrupted_run_of_another_model_is_refused(run, samples, tmp_path):
    run()
    (tmp_path / "out" / "report.json").unlink()
    with pytest.raises(ConfigError, match="answers of another model about made"):
        run(Oracle(samples, name="another"))


class Stopped(Oracle):
    """Answers about two pictures and is then cut off."""

    def ask(self, image, questions):
        if len(self.asked) == 1:
            raise KeyboardInterrupt
        return super().ask(image, questions)


@pytest.fixture
def stopped(run, samples, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(Stopped(samples), tasks=["age"], batch_size=2, model_name="Oracle")
    assert len((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()) == 2
    assert not (tmp_path / "out" / "report.json").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"limit": 4}, "an unfinished run of limit None"),
        ({"split": "test"}, "an unfinished run of split 'all'"),
        (
            {"crop": "none"},
            "answers of this model with crop None about made; an unfinished run of crop None, not 'none'",
        ),
    ],
)
def test_an_unfinished_run_is_known_from_its_first_answer_on(run, stopped, changed, said):
    with pytest.raises(ConfigError, match="folder holds another run") as error:
        run(tasks=["age"], **changed)
    assert said in str(error.value)
    assert "another model" not in str(error.value)
    again = run(tasks=["age"])  # the command that was stopped goes on
    assert sum(count for count, _ in again.asked) == 6


def test_an_unfinished_run_of_another_model_is_told(run, stopped, samples):
    with pytest.raises(ConfigError, match="answers of another model about made; an unfinished run of model"):
        run(Oracle(samples, name="another"), tasks=["age"])


def test_a_run_stopped_before_its_first_answer_holds_nothing(run, stopped, tmp_path):
    (tmp_path / "out" / "predictions.jsonl").unlink()
    assert run(tasks=["age"], limit=4).asked != []


def test_a_file_that_is_no_report_is_not_replaced(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("[1, 2]")
    with pytest.raises(ConfigError, match="no report of ours"):
        run()


def test_without_a_word_several_models_share_a_file_of_answers(run, samples):
    run(overwrite=None)
    assert run(Oracle(samples, name="another"), overwrite=None).asked != []
    assert run(overwrite=None).asked == []


@pytest.mark.parametrize(
    ("before", "changed", "said"),
    [
        ({}, {"limit": 4}, "a report of limit None"),
        ({}, {"tasks": ["age"]}, "a report that also has expression"),
        ({}, {"crop": "none"}, "a report of crop None"),
        ({"model": "median"}, {}, "a report of model 'median'"),
        ({"dataset": "others"}, {"report": False}, "answers about others"),
    ],
)
def test_what_differs_is_told_before_a_model_is_loaded(run, samples, tmp_path, before, changed, said):
    EVALUATED.register("test-unloadable")(_unloadable)
    dataset = before.get("dataset", "made")
    faces = [sample.model_copy(update={"dataset": dataset}) for sample in samples]
    run(before.get("model", Oracle(samples)), faces)
    if not changed.pop("report", True):
        (tmp_path / "out" / "report.json").unlink()
    with pytest.raises(ConfigError, match="folder holds another run") as error:
        run("test-unloadable", **changed)
    assert said in str(error.value)


def test_a_folder_that_may_be_this_runs_is_not_refused_before_the_model_is_loaded(run, samples):
    EVALUATED.register("test-unloadable")(_unloadable)
    run(Oracle(samples))
    with pytest.raises(AssertionError, match="was loaded"):
        run("test-unloadable")


def _unloadable():
    raise AssertionError("the model was loaded")


def test_the_command_refuses_and_says_how(faces_root, tmp_path):
    from facemllm.cli.main import app

    def command(model, *more):
        options = ["--dataset", "utkface", "--root", str(faces_root / "utkface"), "--limit", "6", "--quiet"]
        arguments = ["evaluate", "-m", model, "--out", str(tmp_path / "out"), "--no-plots", *options, *more]
        return CliRunner().invoke(app, arguments)

    assert command("majority").exit_code == 0
    assert command("majority").exit_code == 0
    refused = command("facemllm-tiny", "--task", "age", "--task", "gender", "--task", "ethnicity")
    assert isinstance(refused.exception, ConfigError) or refused.exit_code == 2
    assert json.loads((tmp_path / "out" / "report.json").read_text())["config"]["model"] == "majority"
    assert command("facemllm-tiny", "--crop", "none", "--overwrite").exit_code == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["config"]["model"] == "facemllm-tiny"
