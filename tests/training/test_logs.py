"""Logs that people use: lines, trackers, curves, held-out parts, early stop, and runs side by side."""

import json

import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from facemllm.cli.main import app
from facemllm.core.errors import ConfigError, MissingExtraError, TrainingError
from facemllm.training import Keeping, ThreeStageRecipe, Trainer, describe_run, find_runs
from facemllm.training import trackers as module
from facemllm.training.checkpoints import Checkpoints
from facemllm.training.curves import draw_curves
from facemllm.training.loop import run_steps
from facemllm.training.parallel import Processes
from facemllm.training.progress import RunLog, read_log
from facemllm.training.watch import Watch

SOURCE = "[{dataset: utkface, split: all}]"
STAGE = (
    "encoder_phase=null",
    "language_phase=null",
    "stages.0.steps=6",
    "stages.0.batch_size=4",
    f"stages.0.data={SOURCE}",
    f"stages.0.held_out={{data: {SOURCE}, every: 2, batches: 1, patience: 2}}",
)


def one_stage(*options):
    recipe = ThreeStageRecipe.load("tiny", (*STAGE, *options))
    return recipe.model_copy(update={"stages": recipe.stages[:1]})


@pytest.fixture
def run(small_model, made_faces, tmp_path):
    def make(name, recipe=None, **options):
        Trainer(
            small_model, recipe or one_stage(), output_dir=tmp_path / name, data_root=made_faces,
            progress=False, **options,
        ).fit(resume=True)  # fmt: skip
        return tmp_path / name

    return make


def test_a_run_leaves_its_numbers_where_they_are_looked_for(run, monkeypatch):
    hooked = []
    hooks = [lambda model, stage: hooked.append(stage.name) or {"accuracy": 0.5}]
    recipe = one_stage("stages.0.precision=bfloat16", "stages.0.activation_checkpointing=true")
    folder = run("first", recipe, trackers=["tensorboard"], hooks=hooks, keeping=Keeping(every=2))
    lines = read_log(folder / "log.jsonl")
    held_out = [line["held_out"] for line in lines if "held_out" in line]
    assert len(held_out) == len(hooked) == 3
    assert {"loss", "accuracy"} == held_out[0].keys()
    with Image.open(folder / "stages" / "1-alignment" / "curves.png") as picture:
        assert picture.width > 400
        assert len(picture.convert("L").getcolors(256)) > 20  # not an empty sheet
    # tensorboard itself reads what was written
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = [accumulator.EventAccumulator(str(path.parent)) for path in folder.rglob("events.out.tfevents*")]
    tags = {}
    for found in events:
        found.Reload()
        tags |= {tag: [event.value for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert tags["alignment/held_out/loss"] == pytest.approx([entry["loss"] for entry in held_out], rel=1e-6)
    assert "alignment/loss" in tags
    described = describe_run(folder)
    assert described["finished"]
    assert described["phases"][0] | {"minutes": 0, "peak_mib": 0} == {
        "name": "alignment", "steps": 6, "of": 6, "loss": described["phases"][0]["loss"],
        "held_out": min(entry["loss"] for entry in held_out), "minutes": 0, "peak_mib": 0,
    }  # fmt: skip


def test_a_phase_that_gets_no_better_ends_early_with_its_best_weights(tmp_path):
    scores = {1: 3.0, 3: 2.0, 5: 2.5, 7: 2.4}  # by step; the rest would be better, and is not reached

    def phase(stop_at=None):
        torch.manual_seed(0)
        layer, weights = torch.nn.Linear(3, 1), {}

        def loss_of(model, step):
            if step == stop_at:
                raise KeyboardInterrupt
            return model(torch.randn(4, 3)).square().mean()

        def after_step(step):
            weights[step] = layer.weight.detach().clone()

        watch = Watch(lambda model: {"loss": scores.get(max(weights), 0.0)}, every=2, patience=2, phase="a")
        groups = [{"params": list(layer.parameters()), "lr": 0.1}]
        run_steps(
            layer, loss_of, name="a", groups=groups, steps=40, folder=tmp_path / "checkpoint",
            log=RunLog(tmp_path / "log.jsonl"), seed=0, progress=False, after_step=after_step, watch=watch,
            keeping=Keeping(every=1, last=1),
        )  # fmt: skip
        return layer, weights

    with pytest.raises(KeyboardInterrupt):
        phase(stop_at=6)
    assert Checkpoints(tmp_path / "checkpoint").steps() == [4, 6]  # the best and the last
    layer, weights = phase()
    assert sorted(weights) == [6, 7]  # it went on from there, and remembered the best
    assert Checkpoints(tmp_path / "checkpoint").steps() == [4, 8]
    best = Checkpoints(tmp_path / "checkpoint").best().tensors["model"]["weight"]
    assert torch.equal(layer.weight, best)
    assert not torch.equal(layer.weight, weights[7])
    again, weights = phase()  # it is over
    assert not weights
    assert torch.equal(again.weight, best)


def test_other_data_are_refused_on_resume(run, tmp_path, made_faces, small_model):
    folder = run("data", keeping=Keeping(every=2))
    (folder / "stages" / "1-alignment" / "movement.yaml").unlink()
    run("data")  # the same: nothing to do, and movement is proved anew
    assert yaml.safe_load((folder / "stages" / "1-alignment" / "movement.yaml").read_text())["moved"]
    other = tmp_path / "other" / "utkface"
    other.mkdir(parents=True)
    for path in sorted((made_faces / "utkface").iterdir())[:5]:
        (other / path.name).write_bytes(path.read_bytes())
    with pytest.raises(TrainingError, match="the data is not what it was"):
        Trainer(
            small_model, one_stage(), output_dir=folder, data_root=other.parent, progress=False
        ).fit(resume=True)  # fmt: skip


def test_runs_are_listed_and_compared(run, tmp_path):
    run("a")
    run("b", one_stage("stages.0.lr={connector: 0.01}", "stages.0.steps=4"))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "recipe.yaml").write_text((tmp_path / "a" / "recipe.yaml").read_text())
    names = [path.name for path in find_runs(tmp_path)]
    assert {"a", "b", "c"} <= set(names)
    result = CliRunner().invoke(app, ["runs", *(str(tmp_path / name) for name in "abc"), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [entry["finished"] for entry in found["runs"]] == [True, True, False]
    assert [phase["steps"] for phase in found["runs"][1]["phases"]] == [4]
    assert found["differing"] == {"stages.0.lr.connector": [0.002, 0.01, 0.002], "stages.0.steps": [6, 4, 6]}
    shown = CliRunner().invoke(app, ["runs", str(tmp_path)])
    assert "alignment" in shown.stdout
    with pytest.raises(TrainingError, match="no runs here"):
        find_runs(tmp_path / "a" / "stages")


def test_a_torn_line_is_left_out_and_a_repeated_step_counts_once(tmp_path):
    path = tmp_path / "log.jsonl"
    RunLog(path).write(phase="a", step=0, loss=3.0)
    RunLog(path).write(phase="a", step=10, loss=2.0)
    with path.open("a") as file:
        file.write('{"phase": "a", "st')
    log = RunLog(path)
    log.write(phase="a", step=10, loss=1.5)
    assert [(line["step"], line["loss"]) for line in read_log(path)] == [(0, 3.0), (10, 1.5)]
    RunLog(tmp_path / "other.jsonl", enabled=False).write(phase="a")
    assert not (tmp_path / "other.jsonl").exists()
    assert not draw_curves(tmp_path / "none.jsonl", "a", tmp_path / "a.png")


def test_a_log_on_a_full_disk_is_told(tmp_path):
    log = RunLog(tmp_path / "log.jsonl")
    (tmp_path / "log.jsonl").mkdir()  # cannot be written to, whoever runs this
    with pytest.raises(TrainingError, match="cannot write the log"):
        log.write(phase="a")


def test_steps_of_a_tracker_do_not_go_back_from_phase_to_phase():
    class Strict:
        """Drops what comes for an earlier step, as wandb does."""

        def __init__(self):
            self.seen, self.last = [], -1

        def log(self, values, step):
            if step >= self.last:
                self.seen.append((step, values))
                self.last = step

    lines = [("a", 0), ("a", 10), ("b", 0), ("b", 10), ("b", 10), ("c", 3)]
    growing, plain = (module.Tracker(Strict(), growing=kind) for kind in (True, False))
    for tracker in (growing, plain):
        for number, (phase, step) in enumerate(lines):
            tracker.write({"phase": phase, "step": step, "loss": float(number)})
    assert [step for step, _ in growing.inner.seen] == [0, 10, 11, 21, 21, 25]
    assert growing.inner.seen[3][1] == {"b/loss": 3.0, "b/step": 10.0}
    assert len(plain.inner.seen) < len(lines)  # as it was


def test_wandb_keeps_the_numbers_of_all_phases(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    Processes()
    (tracker,) = module.start_trackers(["wandb"], tmp_path, {"name": "tiny", "seed": 0})
    log = RunLog(tmp_path / "log.jsonl", trackers=[tracker])
    for phase, step, loss in (("a", 0, 3.0), ("a", 10, 2.0), ("b", 0, 1.5), ("b", 10, 1.0)):
        log.write(phase=phase, step=step, loss=loss)
    assert tracker.inner.tracker.name == tmp_path.name
    kept = dict(tracker.inner.tracker.summary)  # a step is in it once the next one begins
    tracker.close()
    assert {key: kept[key] for key in ("a/loss", "a/step", "b/loss", "b/step")} == {
        "a/loss": 2.0, "a/step": 10.0, "b/loss": 1.5, "b/step": 0.0,
    }  # fmt: skip


def test_trackio_keeps_the_numbers_of_a_run(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    trackio = pytest.importorskip("trackio", reason="trackio is not installed (extra track)")
    from trackio.sqlite_storage import SQLiteStorage

    folder = run("tracked", trackers=["trackio"])
    (found,) = (one for one in trackio.Api().runs("facemllm") if one.name == "tracked")
    kept = {(row["step"], row["alignment/loss"]) for row in SQLiteStorage.get_logs("facemllm", "tracked")
            if "alignment/loss" in row}  # fmt: skip
    lines = read_log(folder / "log.jsonl")
    assert kept == {(line["step"], line["loss"]) for line in lines if "loss" in line}
    assert len(kept) == 2
    assert {key: value for key, value in found.config.items() if not key.startswith("_")} == {
        "name": "tiny", "seed": 0,
    }  # fmt: skip


def test_trackers_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="unknown tracker"):
        module.start_trackers(["notebook"], tmp_path, {})
    import accelerate.tracking

    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", list)
    with pytest.raises(ConfigError, match=r"tracker is not installed(.|\n)*pip install wandb"):
        module.start_trackers(["wandb"], tmp_path, {})
    for name in ("tensorboard", "trackio"):
        with pytest.raises(MissingExtraError, match=name):
            module.start_trackers([name], tmp_path, {})
