"""The same stages in one process, in two, and sharded over two; run as a program, as ``killing.py`` is."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import killing

# Which samples each process computes in which step is written down beside the run.
RECORD = """
import json, os
from facemllm.training import stage_run
seen = open(f"{out}-samples-{environment.get('RANK', 0)}.jsonl", "a")
real = stage_run.shares
def recorded(drawn, **options):
    result = real(drawn, **options)
    names = [pairs.sample for share in result if share.weight for pairs in share.pairs]
    seen.write(json.dumps([names, [pairs.sample for pairs in drawn]]) + "\\n")
    seen.flush()
    return result
stage_run.shares = recorded
from facemllm.training import parallel
shard = parallel._shard
def noted(model, device):
    model = shard(model, device)
    kinds = {f"{type(p.data).__name__} {str(p.dtype)[6:]}" for p in model.parameters()}
    open(f"{out}-kinds", "w").write(" ".join(sorted(kinds)))
    return model
parallel._shard = noted
"""
# The encoder phase alone, with nothing drawn at random in layers; one of two processes gets no ages.
PHASE = """
from facemllm.training import encoder_phase, trainer
trainer.run_stage = lambda *arguments: None
for head in encoder_phase.HEADS.values():
    head.pop("dropout", None)
real = encoder_phase.task_labels
def some(task, samples):
    labels, known = real(task, samples)
    if task == "age":
        known[1:] = False
    return labels, known
encoder_phase.task_labels = some
"""
APART = PHASE + "encoder_phase.share_statistics = lambda *arguments: None\n"
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


def recipe(parts: int):
    """Return stages in which no layer draws at random, with a batch that is odd to divide."""
    whole = killing.recipe()
    stages = [
        stage.model_copy(update={"held_out": None, "accumulate": parts, "questions_per_image": 2})
        for stage in whole.stages
    ]
    language = whole.language_phase.model_copy(update={"steps": 3, "batch_size": 5})
    return whole.model_copy(
        update={"stages": tuple(stages), "lora": {"r": 2, "dropout": 0.0}, "encoder_phase": None,
                "language_phase": language}
    )  # fmt: skip


def of_encoder(batch_norm: bool):
    """Return a recipe with an encoder phase whose batch is odd to divide."""
    whole = killing.recipe()
    phase = whole.encoder_phase.model_copy(
        update={"steps": 4, "batch_size": 5, "batch_norm": batch_norm, "early_size": 96, "early_share": 0.5}
    )
    language = whole.language_phase.model_copy(update={"steps": 1})
    return whole.model_copy(update={"encoder_phase": phase, "language_phase": language})


def in_halves():
    """Return stages whose frozen parts are held in bfloat16."""
    halves = {"encoder": "bfloat16", "connector": "bfloat16", "language_model": "bfloat16"}
    whole = recipe(1)
    stages = [stage.model_copy(update={"precision": halves}) for stage in whole.stages]
    return whole.model_copy(update={"stages": tuple(stages)})


def of_shards():
    """Return two stages, one on features and one on pixels, that draw records of tar shards in passes."""
    from facemllm.training import DataSource

    whole = recipe(1)
    source = DataSource(dataset="records", split="all", path="shards/faces")
    stages = [
        stage.model_copy(update={"data": (source,), "passes": True, "steps": 6, "batch_size": 6})
        for stage in (whole.stages[0], whole.stages[2])
    ]
    return whole.model_copy(update={"stages": tuple(stages)})


def in_shards(root: Path, folder: Path) -> Path:
    """Write the faces of a dataset as records in three shards; return the root of a run's data."""
    from facemllm.data import read_dataset, write_shards

    write_shards(read_dataset("utkface", root), folder / "data" / "shards" / "faces", per_shard=3)
    return folder / "data"


def read(out: Path) -> list:
    """Return the losses of a run's stages."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [[line["phase"], line["step"], line["loss"]] for line in lines if "loss" in line]


def samples(out: Path, count: int) -> list:
    """Return what each process computed, draw by draw, and what was drawn."""
    files = [Path(f"{out}-samples-{rank}.jsonl").read_text().splitlines() for rank in range(count)]
    return [[json.loads(line) for line in lines] for lines in zip(*files, strict=True)]


def completed(out: Path, count: int) -> None:
    """Leave out the step that one process had begun when the other was killed."""
    files = [Path(f"{out}-samples-{rank}.jsonl") for rank in range(count)]
    lines = [path.read_text().splitlines(keepends=True) for path in files]
    for path, found in zip(files, lines, strict=True):
        path.write_text("".join(found[: min(map(len, lines))]))


def main(folder: Path, root: Path) -> None:
    """Run everything and print what was found as JSON."""
    killing.import_all()
    report: dict = {}
    crops: Path | None = None
    for name, count, parts, environment in (
        ("one", 1, 1, {}),
        ("parts", 1, 3, {}),
        ("two", 2, 1, {}),
        ("sharded", 2, 1, FSDP),
    ):
        killing.recipe_of_run = lambda parts=parts: recipe(parts)
        out = killing.prepared(folder, name, crops)
        crops = crops or out
        killing.start(out, root, [], count=count, changes=RECORD, extra=environment)
        kinds = Path(f"{out}-kinds")
        report[name] = {
            "losses": read(out),
            "samples": samples(out, count),
            "kinds": kinds.read_text() if kinds.is_file() else "",
        }
    # Sharded until it is killed, and then one process goes on.
    out = killing.prepared(folder, "handed over", crops)
    assert not killing.start(out, root, ["step face-tasks 2"], count=2, extra=FSDP)
    killing.start(out, root, [], count=1)
    report["handed over"] = {"losses": read(out)}
    # The check itself: gradients that are not shared.
    out = killing.prepared(folder, "apart", crops)
    killing.start(
        out, root, [], count=2,
        changes="from facemllm.training.parallel import Processes\n"
        "Processes.wrap = lambda self, model, groups: (model, model, list(groups))",
    )  # fmt: skip
    report["apart"] = {"losses": read(out)}
    # The encoder phase: in one process, in two, and in two whose batch norms go by their own pictures.
    for norm, kind in ((False, "plain"), (True, "normed")):
        killing.recipe_of_run = lambda norm=norm: of_encoder(norm)
        for name, count, changes, environment in (
            ("one", 1, PHASE, {}), ("two", 2, PHASE, {}), ("apart", 2, APART, {}),
        ):  # fmt: skip
            if norm or name != "apart":
                out = killing.prepared(folder, f"{kind} {name}", crops)
                killing.start(out, root, [], count=count, changes=changes, extra=environment)
                report[f"{kind} {name}"] = {"losses": [line for line in read(out) if line[0] == "encoder"]}
    # Frozen parts held in bfloat16: in one process, and sharded over two.
    killing.recipe_of_run = in_halves
    for name, count, environment in (("halves", 1, {}), ("halves sharded", 2, FSDP)):
        out = killing.prepared(folder, name, crops)
        killing.start(out, root, [], count=count, changes=RECORD, extra=environment)
        kinds = Path(f"{out}-kinds")
        report[name] = {"losses": read(out), "kinds": kinds.read_text() if kinds.is_file() else ""}
    # Records in shards: in one process, and in two that are killed on the way.
    killing.recipe_of_run = of_shards
    root = in_shards(root, folder)
    for name, count, die_at in (("shards", 1, []), ("shards of two", 2, ["step face-tasks 3"])):
        out = killing.prepared(folder, name, None)
        finished = killing.start(out, root, die_at, count=count, changes=RECORD)
        if not finished:
            completed(out, count)
            killing.start(out, root, [], count=count, changes=RECORD)
        report[name] = {"losses": read(out), "samples": samples(out, count), "finished": finished}
        crops = sorted(path.parent.name for path in out.glob("cache/*/done.json"))
        report[name]["cropped"] = [name for name in crops if ".tar-" in name]
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
