"""``facemllm runs``: training runs listed and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from facemllm.cli.options import AsJson, print_json


def runs(
    folders: Annotated[
        list[str] | None, typer.Argument(help="Runs, or folders that hold runs.", metavar="[DIR...]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List training runs: how far they are, their losses, and in which options they differ."""
    from facemllm.training.runs import describe_run, differing, find_runs

    found = list(dict.fromkeys(run for folder in folders or ["runs"] for run in find_runs(folder)))
    described = [describe_run(run) for run in found]
    options = differing(found) if len(found) > 1 else {}
    if as_json:
        print_json({"runs": described, "differing": options})
        return
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for heading in ("run", "recipe", "phase", "steps", "loss", "held out", "minutes", "MiB"):
        table.add_column(heading, no_wrap=heading in ("phase", "steps", "loss"))
    for run in described:
        for number, phase in enumerate(run["phases"] or [{"name": "(nothing yet)"}]):
            first = (f"{Path(run['run']).name}{'' if run['finished'] else ' (unfinished)'}", run["recipe"])
            table.add_row(*(first if number == 0 else ("", "")), *_cells(phase))
    console = Console()
    console.print(table)
    if options:
        shown = Table(
            "option", *(Path(run["run"]).name for run in described), title="where their recipes differ"
        )
        for key, values in options.items():
            shown.add_row(key, *(str(value) for value in values))
        console.print(shown)


def _cells(phase: dict[str, Any]) -> list[str]:
    steps = f"{phase.get('steps', 0)} of {phase.get('of') or '?'}"
    numbers = [phase.get(key) for key in ("loss", "held_out", "minutes", "peak_mib")]
    return [phase["name"], steps, *("" if number is None else f"{number:g}" for number in numbers)]
