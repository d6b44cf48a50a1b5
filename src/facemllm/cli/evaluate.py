"""``facemllm evaluate``: measure a model on labelled faces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facemllm.cli.leaks import pictures_of
from facemllm.cli.options import Crop, Model, check_and_quiet


def evaluate(
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the dataset.", metavar="NAME")],
    root: Annotated[str, typer.Option("--root", help="Folder with the dataset's own files.", metavar="DIR")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="Folder for the report and the answers.", metavar="DIR")
    ],
    model: Model = "facemllm-tiny",
    split: Annotated[str, typer.Option(help="A split of the dataset, or all.")] = "all",
    task: Annotated[
        list[str] | None,
        typer.Option("--task", "-t", help="Only this task; repeats. Default: all with labels."),
    ] = None,
    no_sensitive: Annotated[
        bool,
        typer.Option(
            "--no-sensitive", help="Leave out perceived gender and ethnicity unless named by --task."
        ),
    ] = False,
    heads: Annotated[
        bool, typer.Option("--heads", help="Also measure the model's heads named as tasks.")
    ] = False,
    likelihoods: Annotated[
        bool, typer.Option("--likelihoods", help="Also score the likelihood of each option, and calibration.")
    ] = False,
    protocol: Annotated[
        str | None,
        typer.Option(help="A zero-shot protocol: celeba-zero-shot, or a YAML file.", metavar="NAME"),
    ] = None,
    show_faces: Annotated[
        bool, typer.Option("--show-faces", help="Do not blur the faces on the sheet of the worst answers.")
    ] = False,
    training_pictures: Annotated[
        str | None,
        typer.Option(
            "--training-pictures",
            help="Look for copies of the pictures the model was trained on: a folder, a .jsonl file of "
            "records, or NAME=ROOT:SPLIT.",
            metavar="SET",
        ),
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Ask by Ray workers: local, auto, or an address.", metavar="ADDRESS")
    ] = None,
    ray_workers: Annotated[int, typer.Option(help="How many Ray workers.")] = 2,
    limit: Annotated[int | None, typer.Option(help="At most so many faces, drawn by hash.")] = None,
    batch_size: Annotated[int, typer.Option(help="Pictures asked about together.")] = 32,
    crop: Crop = None,
    plots: Annotated[bool, typer.Option(help="Draw plots.")] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what another run left in the folder.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no tables.")] = False,
) -> None:
    """Ask a model about a dataset's faces; write report.html, .json and .md, results.jsonl and plots.

    An interrupted run goes on where it stopped: answers are kept in predictions.jsonl. A folder that holds a
    run of another model, dataset, split or setting is refused unless --overwrite is given. Under `torchrun`
    or `accelerate launch`, every process asks about its share of the pictures.
    """
    from facemllm.evaluation import evaluate as run
    from facemllm.evaluation.models import kind_of
    from facemllm.evaluation.spread import processes

    if kind_of(model) is None:
        check_and_quiet(model)
    report = run(
        model,
        dataset,
        root=root,
        split=split,
        tasks=task or None,
        sensitive=not no_sensitive,
        limit=limit,
        batch_size=batch_size,
        output_dir=out,
        progress=not quiet,
        with_heads=heads,
        crop=crop,
        model_name=model,
        likelihoods=likelihoods,
        protocol=protocol,
        ray=ray,
        ray_workers=ray_workers,
        overwrite=overwrite,
        training_pictures=None if training_pictures is None else pictures_of(training_pictures),
    )
    if not processes().first:
        return
    report.save(out, plots=plots, faces="shown" if show_faces else "blurred")
    for warning in report.summary["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    if not quiet:
        typer.echo(report.to_markdown().split("\n## ", 1)[0])
    typer.echo(f"saved {Path(out) / 'report.json'}")
