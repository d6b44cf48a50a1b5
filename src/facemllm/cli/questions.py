"""``facemllm questions``: turn a labelled dataset into questions and answers."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from facemllm.core.errors import DatasetError


def questions(
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the dataset.", metavar="NAME")],
    root: Annotated[str, typer.Option("--root", help="Folder with the dataset's own files.", metavar="DIR")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="File to write, one question a line.", metavar="FILE.jsonl")
    ],
    split: Annotated[str, typer.Option(help="A split of the dataset, or all.")] = "all",
    task: Annotated[
        list[str] | None,
        typer.Option("--task", "-t", help="Only this task; repeats. Default: all but gender and ethnicity."),
    ] = None,
    phrasings: Annotated[
        str, typer.Option(help="train: those for training; held-out: those kept from it; all.", metavar="SET")
    ] = "train",
    seed: Annotated[int, typer.Option(help="Draws phrasings and options, for each face on its own.")] = 0,
) -> None:
    """Write questions, options, answers and labels about a dataset's faces as JSON lines."""
    from facemllm.data import read_dataset, write_questions

    if phrasings not in ("train", "held-out", "all"):
        raise DatasetError(
            "cannot choose phrasings",
            given=repr(phrasings),
            expected="train, held-out or all",
            do="choose one of these",
        )
    read = read_dataset(dataset, root, split)
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    with path.open("w", encoding="utf-8") as file:
        for sample in read:
            rng = random.Random(f"{seed}:{sample.id}")
            about = sample.model_dump(include={"id", "image", "box", "dataset", "split", "licence"})
            for qa in write_questions(sample, rng, task or None, phrasings):
                file.write(json.dumps(about | qa.model_dump(), ensure_ascii=False) + "\n")
                counts[qa.task] += 1
    for name, count in sorted(counts.items()):
        typer.echo(f"{name:12} {count}")
    typer.echo(f"saved {path}: {counts.total()} questions about {len(read)} faces")
    typer.echo(str(read.skipped))
