"""What each piece of the recipe is worth: variants of ``tiny``, shrunken. Rewrites docs/ablations.md.

    python -m benchmarks.ablations --data data --work runs/ablations
    python -m benchmarks.ablations --table                               # the page anew from what is measured

Each run (a variant with a seed) trains on a fixed subset, is asked about held-out faces, and leaves its
scores face by face in ``--work``; what is there is not done again, so it can be stopped at any time. Crops
and the features of the frozen encoder are shared by all runs, the language model made from text by all runs
of a seed.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.pages import filled
from facemllm import evaluate
from facemllm.data import FaceSample, read_dataset
from facemllm.evaluation import supported_tasks
from facemllm.model import AutoFaceMLLM
from facemllm.training import ThreeStageRecipe, Trainer
from facemllm.training.assemble import assemble
from facemllm.training.crops import centre, crop_dataset

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs" / "ablations.md", ROOT / "benchmarks" / "results" / "ablations.json"
FOLDERS = {"pointing04": "HeadPoseImageDatabase"}

TRAINED = [
    {"dataset": "fairface", "weight": 0.42, "limit": 1500},
    {"dataset": "fer2013", "weight": 0.36, "limit": 1500},
    {
        "dataset": "utkface",
        "weight": 0.16,
        "limit": 1000,
        "tasks": ["expression", "age", "age_bin", "gender"],
    },
    {"dataset": "pointing04", "weight": 0.06},
]
HELD_OUT = {
    "fer2013": ("validation", ("expression",)),
    "utkface": ("test", ("age", "gender")),
    "fairface": ("val", ("gender", "ethnicity")),
    "pointing04": ("test", ("pose",)),
}
ERRORS = ("age", "pose")
"""Tasks whose score is an error; the others' is the share of right answers."""

STEPS, BATCHES = (80, 150, 500), (48, 64, 64)
BASE = "all three stages"
POINTS = [[0.32, 0.35], [0.68, 0.35], [0.50, 0.54], [0.355, 0.70], [0.645, 0.70]]


@dataclass(frozen=True)
class Variant:
    """One change to the base.

    Attributes:
        name: In the table.
        skip: Stages that are left out, by number.
        changes: Of the recipe.
        longer: Whether the stages that are left get the steps of those left out.
        lora: Whether LoRA trains in place of the language model.
        rows: Whether each pair is a row of its own, instead of a branch.
        first_rate: Learning rate of stage 1, as a share of that of ``tiny``. At the whole of it this language
            model, which knows nothing but text, learns to look away from the picture, and must unlearn it.
    """

    name: str
    skip: tuple[int, ...] = ()
    changes: tuple[tuple[str, Any], ...] = ()
    longer: bool = False
    lora: int = 0
    rows: bool = False
    first_rate: float = 0.1


_TINY = {"name": "facemllm/facemllm-tiny"}
VARIANTS = (
    Variant(BASE),
    Variant("no stage 1", skip=(0,)),
    Variant("stage 1 at ten times the rate", first_rate=1.0),
    Variant("no stage 2", skip=(1,)),
    Variant("no stage 3", skip=(2,)),
    Variant("stage 3 alone, with the steps of all", skip=(0, 1), longer=True),
    Variant(
        "Q-Former, 9 queries",
        changes=(
            ("connector", {"name": "qformer", "num_queries": 9, "width": 128, "layers": 2, "heads": 4}),
        ),
    ),
    Variant(
        "resampler, 9 latents",
        changes=(("connector", {"name": "resampler", "num_queries": 9, "layers": 2, "heads": 4}),),
    ),
    Variant(
        "with region tokens",
        changes=(("encoder", {"name": "region-guided", "base": _TINY, "points": POINTS}),),
    ),
    Variant("LoRA, rank 4", lora=4),
    Variant("LoRA, rank 16", lora=16),
    Variant("LoRA, rank 64", lora=64),
    Variant("each pair a row of its own", rows=True),
)


def recipe_of(variant: Variant, seed: int, scale: float = 1.0) -> ThreeStageRecipe:
    """Return a variant's recipe.

    Args:
        variant: What is changed.
        seed: Of everything.
        scale: Of the number of steps, for a quick look.

    Example:
        >>> [stage.steps for stage in recipe_of(VARIANTS[1], 0).stages]
        [150, 500]
    """
    values = ThreeStageRecipe.load("tiny").model_dump()
    values |= {"name": "ablation", "seed": seed, "encoder": _TINY, "encoder_phase": None}
    values["heads_from"] = "facemllm-tiny"
    values["language_phase"]["steps"] = max(2, round(200 * scale))
    steps = [max(2, round(count * scale)) for count in STEPS]
    extra = sum(steps[index] for index in variant.skip) if variant.longer else 0
    stages = []
    for index, stage in enumerate(values["stages"][: len(STEPS)]):
        if index in variant.skip:
            continue
        stage |= {"steps": steps[index] + extra, "batch_size": BATCHES[index], "data": TRAINED}
        if index == 0:
            stage["lr"] = {part: rate * variant.first_rate for part, rate in stage["lr"].items()}
        if variant.lora and "language_model" in stage["train"]:
            stage["train"] = ["connector", "lora"]
            stage["lr"] = {"connector": stage["lr"]["connector"], "lora": 2 * stage["lr"]["connector"]}
        stages.append(stage)
    values["stages"] = stages
    if variant.lora:
        values["lora"] = {"r": variant.lora, "dropout": 0.0}
    return ThreeStageRecipe.model_validate(values | dict(variant.changes))


def run(variant: Variant, seed: int, *, data: Path, work: Path, limit: int, scale: float) -> dict[str, Any]:
    """Train a variant and ask it about the held-out faces."""
    out = work / f"{_slug(variant.name)}-{seed}"
    recipe = recipe_of(variant, seed, scale)
    out.mkdir(parents=True, exist_ok=True)
    _link(out / "cache", work / "cache")
    _link(out / "language", work / f"language-{seed}")
    trainer = Trainer(None, recipe, output_dir=out, data_root=data, progress=False)
    torch.manual_seed(seed)
    trainer.model = assemble(trainer)
    if variant.rows:
        trainer.model.plain_reasons = ["each pair is to be a row of its own"]
    model = trainer.fit(resume=True)
    model.plain_reasons = []
    tasks: dict[str, Any] = {}
    for dataset, (_, names) in HELD_OUT.items():
        samples = held_out(dataset, data, work, limit)
        report = evaluate(model, samples, tasks=names, crop="none", progress=False)
        for task in supported_tasks(samples, names):
            own = [record for record in report.records if record.task == task.name]
            answered = [record.outcome == "answer" for record in own]
            scores = [
                float(task.scores([r.truth], [r.prediction])[0])
                if said
                else (None if task.name in ERRORS else 0.0)
                for r, said in zip(own, answered, strict=True)
            ]
            tasks[f"{dataset} {task.name}"] = {"scores": scores, "answered": sum(answered)}
    return {"variant": variant.name, "seed": seed, "tasks": tasks, "step_seconds": _pace(out / "log.jsonl")}


def held_out(dataset: str, data: Path, work: Path, limit: int) -> list[FaceSample]:
    """Return held-out faces as crops on disk, found once."""
    split = HELD_OUT[dataset][0]
    samples = list(read_dataset(dataset, data / FOLDERS.get(dataset, dataset), split))
    processor = AutoFaceMLLM.from_pretrained("facemllm-tiny").checked_processor()
    crops = crop_dataset(
        f"{dataset}-{split}", samples, processor, cache=work / "cache", progress=False
    ).limited(limit, 0)
    folder = work / "faces" / f"{dataset}-{limit}"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for index, sample in enumerate(crops.samples):
        path = folder / f"{index}.png"
        if not path.is_file():
            from PIL import Image

            centre(Image.fromarray(np.array(crops.pixels[index]))).save(path)
        found.append(sample.model_copy(update={"image": str(path)}))
    return found


def _pace(log: Path) -> dict[str, float]:
    """Return seconds a step of each stage, by the clock, from the run's log."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    pace = {}
    for phase in dict.fromkeys(line["phase"] for line in lines if "step" in line):
        own = [line for line in lines if line["phase"] == phase and "step" in line]
        if own[-1]["step"] > own[0]["step"]:
            seconds = own[-1]["time"] - own[0]["time"]
            pace[phase] = round(seconds / (own[-1]["step"] - own[0]["step"]), 4)
    return pace


# --- the table


def compare(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return each variant's mean over seeds and faces, and its difference from the base on the same faces."""
    by_variant: dict[str, dict[int, dict[str, Any]]] = {}
    for one in runs:
        by_variant.setdefault(one["variant"], {})[one["seed"]] = one
    base = by_variant.get(BASE, {})
    table: dict[str, Any] = {}
    for name, seeds in by_variant.items():
        row: dict[str, Any] = {"seeds": sorted(seeds), "tasks": {}}
        for task in next(iter(seeds.values()))["tasks"]:
            scores = _scores(seeds, task)
            cell = {
                "mean": _mean(scores),
                "by_seed": [_mean(one) for one in scores],
                "answered": sum(one["tasks"][task]["answered"] for one in seeds.values()),
                "n": int(scores.size),
            }
            both = sorted(set(seeds) & set(base))
            apart = _scores(seeds, task, both) - _scores(base, task, both) if both else np.empty((0, 0))
            if name != BASE and not np.isnan(apart).all():
                cell["difference"] = _round(np.nanmean(apart))
                cell["interval"] = _interval(apart)
            row["tasks"][task] = cell
        row["step_seconds"] = next(iter(seeds.values()))["step_seconds"]
        table[name] = row
    return table


def _scores(seeds: dict[int, dict[str, Any]], task: str, which: Sequence[int] | None = None) -> Any:
    """Return scores [seeds, faces]; NaN where an error is not known."""
    rows = [seeds[seed]["tasks"][task]["scores"] for seed in (which or sorted(seeds))]
    return np.array([[np.nan if score is None else score for score in row] for row in rows], dtype=float)


def _interval(apart: Any) -> list[float]:
    """Return the 95 % interval of the mean of [seeds, faces], both drawn with replacement."""
    rng = np.random.default_rng(0)
    seeds, faces = apart.shape
    means = [
        np.nanmean(apart[rng.integers(0, seeds, seeds)][:, rng.integers(0, faces, faces)])
        for _ in range(1000)
    ]
    return [_round(bound) for bound in np.nanpercentile(means, [2.5, 97.5])]


def to_markdown(table: dict[str, Any]) -> str:
    """Return the table of the page."""
    tasks = list(next(iter(table.values()))["tasks"])
    heads = [
        f"{task.replace(' ', ', ')}, {'off' if task.split()[1] in ERRORS else '% right'}" for task in tasks
    ]
    lines = [
        f"| variant | seeds | {' | '.join(heads)} | s a step, stage 3 |",
        f"|---|---:|{'---:|' * (len(tasks) + 1)}",
    ]
    for name, row in table.items():
        cells = [_cell(task, row["tasks"][task]) for task in tasks]
        pace = row["step_seconds"].get("face-tasks")
        lines.append(f"| {name} | {len(row['seeds'])} | {' | '.join(cells)} | {pace or '–'} |")
    return "\n".join(lines)


def _cell(task: str, cell: dict[str, Any]) -> str:
    error = task.split()[1] in ERRORS
    unit = 1 if error else 100
    text = "–" if cell["mean"] is None else f"{cell['mean'] * unit:.{2 if error else 1}f}"
    if cell["answered"] < 0.95 * cell["n"]:
        text += f" ({100 * cell['answered'] / cell['n']:.0f} % answered)"
    if "interval" in cell:
        low, high = (bound * unit for bound in cell["interval"])
        better = low > 0 or high < 0
        change = f"{cell['difference'] * unit:+.1f} ({low:+.1f} to {high:+.1f})"
        text += f"<br>**{change}**" if better else f"<br>{change}"
    return text


def _mean(scores: Any) -> float | None:
    """Return the mean of what is known, if anything is."""
    return None if np.isnan(scores).all() else _round(np.nanmean(scores))


def _round(value: Any) -> float:
    return round(float(value), 5)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _link(place: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.symlink_to(target.resolve(), target_is_directory=True)


def _todo(options: argparse.Namespace) -> Iterator[tuple[Variant, int, Path]]:
    for seed in range(options.seeds):  # all variants of a seed first: the table is whole early
        for variant in VARIANTS:
            if options.only is None or re.search(options.only, variant.name):
                yield variant, seed, options.work / f"{_slug(variant.name)}-{seed}" / "scores.json"


def main() -> None:
    """Do the runs that are missing, and rewrite the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--work", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", help="regular expression of variants")
    parser.add_argument("--limit", type=int, default=500, help="held-out faces a dataset")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps, for a quick look")
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = []
    for variant, seed, path in _todo(options):
        if not path.is_file() and not options.table:
            began = time.perf_counter()
            scores = run(
                variant, seed, data=options.data, work=options.work, limit=options.limit, scale=options.scale
            )
            path.write_text(json.dumps(scores))
            print(f"{variant.name}, seed {seed}: {time.perf_counter() - began:.0f} s", flush=True)
        if path.is_file():
            found.append(json.loads(path.read_text()))
    if not found:
        raise SystemExit("nothing measured yet: leave out --table, or correct --work and --only")
    table = compare(found)
    settings = {"steps": STEPS, "pairs a step": BATCHES, "scale": options.scale, "faces": options.limit}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"settings": settings, "variants": table}, indent=1) + "\n")
    options.page.write_text(filled(options.page.read_text(), {"ablations": to_markdown(table)})[0])
    print(f"wrote {options.out} and {options.page}")


if __name__ == "__main__":
    main()
