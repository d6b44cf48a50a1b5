"""``facemllm stats``: what a dataset consists of."""

from __future__ import annotations

import json as jsonlib
import random
from pathlib import Path
from typing import Annotated, Any

import typer

from facemllm.cli.options import AsJson, print_json
from facemllm.core.errors import DatasetError


def stats(
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the dataset.", metavar="NAME")],
    root: Annotated[str, typer.Option("--root", help="Folder with the dataset's own files.", metavar="DIR")],
    split: Annotated[str, typer.Option(help="A split of the dataset, or all.")] = "all",
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", help="Folder for stats.json, plots and a sheet of samples.", metavar="DIR"
        ),
    ] = None,
    sheet: Annotated[int, typer.Option(help="Samples on the sheet.")] = 40,
    seed: Annotated[int, typer.Option(help="Draws the samples of the sheet.")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first malformed record.")] = False,
    json: AsJson = False,
) -> None:
    """Count a dataset's samples, labels and groups, say how balanced they are, and draw them."""
    from facemllm.data import Statistics, stream_dataset

    stream = stream_dataset(dataset, root, split, strict)
    statistics, rng = Statistics(), random.Random(seed)
    shown: list[Any] = []
    for sample in stream:
        statistics.add(sample)
        # A drawn handful of a stream of unknown length, each sample as likely as any other.
        if len(shown) < sheet:
            shown.append(sample)
        elif (place := rng.randrange(statistics.total)) < sheet:
            shown[place] = sample
    if not statistics.total:
        raise DatasetError(
            f"{dataset} has no usable sample in split {split!r}",
            given=f"{stream.reader.root}; {stream.skipped}",
            expected=stream.reader.layout,
            do="ask for another split, or check that root holds the whole dataset",
        )
    report = {
        "dataset": dataset,
        "split": split,
        **statistics.to_dict(),
        "skipped": {"total": stream.skipped.total, "reasons": dict(stream.skipped.reasons),
                    "first": [list(example) for example in stream.skipped.examples]},
        "vocabularies": {v.name: v.version for v in stream.reader.vocabularies},
    }  # fmt: skip
    if out is not None:
        from facemllm.data.figures import draw_all, draw_sheet

        folder = Path(out)
        pictures = len(draw_all(report, folder))
        if shown:
            pictures += 1
            draw_sheet(shown, folder / "samples.png", most=sheet, seed=seed)
        (folder / "stats.json").write_text(jsonlib.dumps(report, ensure_ascii=False, indent=1) + "\n")
    if json:
        print_json(report)
        return
    _show(report)
    typer.echo("(balance: 1 where all that occur are as many, near 0 where nearly all are of one kind)")
    typer.echo(str(stream.skipped))
    if out is not None:
        typer.echo(f"saved {Path(out) / 'stats.json'}, {pictures} pictures")


def _show(report: dict[str, Any]) -> None:
    from facemllm.data.statistics import spoken

    people = f" of {report['identities']:,} people" if report["identities"] else ""
    typer.echo(f"{report['dataset']}: {report['samples']:,} samples{people}")
    typer.echo("terms      " + "; ".join(report["licences"]))
    typer.echo("consent    " + "; ".join(report["consent"]))
    typer.echo("splits     " + ", ".join(f"{name} {count:,}" for name, count in report["splits"].items()))
    for task, entry in report["labels"].items():
        typer.echo(f"{spoken(task):10} {_counts(entry)}")
    for task, named in report["named"].items():
        shares = ", ".join(f"{name} {entry['share']:.0%}" for name, entry in named.items())
        typer.echo(f"{task:10} {shares}")
    for name, entry in report["groups"].items():
        if name not in report["labels"]:
            counts = _counts(entry) if "counts" in entry else f"{entry['values']:,} values"
            typer.echo(f"by {spoken(name):7} {counts}")
    if report["cannot_tell"]:
        typer.echo(
            "cannot tell " + ", ".join(f"{name} {count:,}" for name, count in report["cannot_tell"].items())
        )


def _counts(entry: dict[str, Any]) -> str:
    counts = ", ".join(f"{label} {count:,}" for label, count in entry["counts"].items())
    balance = f" (balance {entry['balance']:.2f})" if entry["balance"] is not None else ""
    return f"{counts}{balance}"
