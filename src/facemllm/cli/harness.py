"""``facemllm harness``: our tasks as files of lmms-eval and VLMEvalKit."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facemllm.cli.options import Model, load_model
from facemllm.core.errors import ConfigError

if TYPE_CHECKING:
    from facemllm.data import FaceSample
    from facemllm.evaluation.tasks import EvalTask

KINDS = ("lmms-eval", "vlmevalkit")


def harness(
    kind: Annotated[str, typer.Argument(help="lmms-eval or vlmevalkit.", metavar="lmms-eval|vlmevalkit")],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the dataset.", metavar="NAME")],
    root: Annotated[str, typer.Option("--root", help="Folder with the dataset's own files.", metavar="DIR")],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder for the task files.", metavar="DIR")],
    split: Annotated[str, typer.Option(help="A split of the dataset, or all.")] = "all",
    task: Annotated[
        list[str] | None,
        typer.Option("--task", "-t", help="Only this task; repeats. Default: all with labels."),
    ] = None,
    no_sensitive: Annotated[
        bool, typer.Option("--no-sensitive", help="Leave out perceived gender and ethnicity unless named.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="At most so many faces, drawn by hash.")] = None,
    check: Annotated[
        str | None,
        typer.Option(
            help="Run the harness in the environment of this Python, and `evaluate` here, and compare.",
            metavar="PYTHON",
        ),
    ] = None,
    model: Model = "facemllm-tiny",
) -> None:
    """Write a dataset's tasks for another harness, which asks the questions that `evaluate` asks.

    The answers are read and scored by this package there too, so the score is the one of `evaluate`; --check
    shows it, to four decimals, and ends with status 1 if it is not so.
    """
    from facemllm.data import read_dataset
    from facemllm.evaluation.evaluator import draw
    from facemllm.evaluation.harness import write_lmms_tasks, write_vlmevalkit_task
    from facemllm.evaluation.tasks import supported_tasks

    if kind not in KINDS:
        raise ConfigError("no such harness", given=kind, expected=" or ".join(KINDS), do="name one of them")
    samples = draw(list(read_dataset(dataset, root, split)), limit)
    tasks = supported_tasks(samples, task or None, sensitive=not no_sensitive)
    prefix, folder = f"facemllm_{dataset}_{split}", shlex.quote(out)
    if kind == "lmms-eval":
        names = write_lmms_tasks(samples, tasks, out, prefix=prefix)
        command = "lmms-eval --model facemllm --model_args pretrained=facemllm-tiny"
        command += f" --tasks {','.join(names)} --include_path {folder} --batch_size 32"
    else:
        names = [f"{prefix}_{one.name}" for one in tasks]
        for one, name in zip(tasks, names, strict=True):
            write_vlmevalkit_task(samples, one, out, name)
        command = f"LMUData={shlex.quote(str(Path(out).absolute()))} "
        command += "python -m facemllm.evaluation.harness.vlmevalkit"
        command += f" --model facemllm-tiny --data {' '.join(names)}"
    typer.echo(f"wrote {', '.join(names)} to {out}")
    if check is None:
        typer.echo(command)
    else:
        _check(kind, check, Path(out), names, samples, tasks, model)


def _check(
    kind: str,
    python: str,
    folder: Path,
    names: Sequence[str],
    samples: Sequence[FaceSample],
    tasks: Sequence[EvalTask],
    model: str,
) -> None:
    from facemllm.evaluation import evaluate
    from facemllm.evaluation.harness.check import RUNNERS, agreements

    theirs = RUNNERS[kind](python, folder, names, model=model)
    ours = evaluate(
        load_model(model), samples, tasks=[task.name for task in tasks], model_name=model, progress=False
    )
    found = agreements(names, tasks, ours.tasks, theirs)
    for one in found:
        said = "nothing" if one.theirs is None else f"{one.theirs:.4f}"
        word = "equal" if one.agrees else "DIFFERENT"
        typer.echo(f"{one.task} {one.metric}: {kind} {said}, facemllm evaluate {one.ours:.4f}, {word}")
    if not found or not all(one.agrees for one in found):
        raise typer.Exit(1)
