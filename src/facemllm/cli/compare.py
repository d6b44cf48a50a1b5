"""``facemllm compare``: evaluations side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facemllm.cli.options import AsJson, print_json


def compare(
    runs: Annotated[list[str], typer.Argument(help="Folders that evaluate wrote.", metavar="RUN RUN...")],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Also write compare.json, .md and .html.", metavar="DIR")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put models that were evaluated on the same faces side by side, with paired differences."""
    from facemllm.evaluation.compare import compare as run

    found = run(runs)
    if out is not None:
        found.save(out)
    if as_json:
        print_json(found.result)
    else:
        typer.echo(found.to_markdown())
        for warning in found.result["warnings"]:
            typer.echo(f"warning: {warning}", err=True)
        if out is not None:
            typer.echo(f"saved {Path(out) / 'compare.html'}")
