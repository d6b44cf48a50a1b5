"""``facemllm export``: questions and answers in the formats of other trainers."""

from __future__ import annotations

import random
from typing import Annotated, Any

import typer

from facemllm.core.errors import DatasetError


def export(
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the dataset.", metavar="NAME")],
    root: Annotated[str, typer.Option("--root", help="Folder with the dataset's own files.", metavar="DIR")],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder to write to.", metavar="DIR")],
    format: Annotated[str, typer.Option("--format", "-f", help="llava, llama-factory, ms-swift or parquet.")],
    split: Annotated[str, typer.Option(help="A split of the dataset, or all.")] = "all",
    task: Annotated[
        list[str] | None,
        typer.Option("--task", "-t", help="Only this task; repeats. Default: all but gender and ethnicity."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="At most so many questions about each face; all faces are written (evaluate's --limit is of "
            "faces)."
        ),
    ] = None,
    phrasings: Annotated[
        str, typer.Option(help="train: those for training; held-out: those kept from it; all.", metavar="SET")
    ] = "train",
    seed: Annotated[int, typer.Option(help="Draws phrasings and options, for each face on its own.")] = 0,
    general: Annotated[
        bool,
        typer.Option(
            "--general",
            help='Also "I don\'t know." to sums, poems, and about the scene: for a model of faces alone, '
            "as a general one would unlearn what it knows.",
        ),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first malformed record.")] = False,
) -> None:
    """Write conversations about a dataset's faces, with LICENCES.json, the terms of their sources."""
    from facemllm.cli.questions import check_phrasings
    from facemllm.data import ALL_FORMS, FaceSample, export_dataset, stream_dataset, write_questions

    check_phrasings(phrasings)
    if limit is not None and limit < 1:
        raise DatasetError(
            "cannot limit the questions about each face",
            given=f"--limit {limit}",
            expected="1 or more",
            do="leave --limit out for all questions",
        )
    stream = stream_dataset(dataset, root, split, strict)

    def ask(sample: FaceSample) -> list[Any]:
        rng = random.Random(f"{seed}:{sample.id}")
        found = write_questions(sample, rng, task or None, phrasings, forms=ALL_FORMS, private=not general)
        return rng.sample(found, limit) if limit is not None and limit < len(found) else found

    manifest = export_dataset(stream, ask, out, format, name=dataset)
    typer.echo(f"saved {out}: {manifest.records} conversations, format {format}")
    for name, terms in manifest.licences.items():
        typer.echo(f"terms of {name}: {'; '.join(terms)}")
    typer.echo(str(stream.skipped))
