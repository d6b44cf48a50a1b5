"""What an evaluation found, as numbers for machines, tables for people, and plots."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facemllm.evaluation.markdown import render_markdown
from facemllm.evaluation.page import render_html
from facemllm.evaluation.records import Record
from facemllm.evaluation.sheet import Faces
from facemllm.evaluation.spread import processes


@dataclass(frozen=True)
class Report:
    """The result of :func:`facemllm.evaluation.evaluate`.

    Attributes:
        summary: Everything in ``report.json``; ``summary["tasks"][task]`` holds n, the counts of outcomes,
            the metrics, their intervals, and results by group.
        records: Every answer beside its label.
    """

    summary: dict[str, Any]
    records: Sequence[Record] = field(default_factory=tuple)

    @property
    def tasks(self) -> dict[str, Any]:
        """Results by task."""
        found: dict[str, Any] = self.summary["tasks"]
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return self.summary

    def to_markdown(self) -> str:
        """Return the tables of ``report.md``."""
        return render_markdown(self.summary)

    def to_html(self, *, faces: Faces = "blurred") -> str:
        """Return ``report.html``: one page that needs nothing beside it; pictures as in :meth:`save`."""
        return render_html(self.summary, self.records, faces=faces)

    def save(self, folder: str | Path, *, plots: bool = True, faces: Faces = "blurred") -> Path:
        """Write ``report.json``, ``report.md``, ``report.html``, ``results.jsonl`` and the plots.

        Args:
            folder: Made if missing.
            plots: Draw confusion matrices, scatters and group bars, as PNG.
            faces: How the page shows the pictures answered worst: "blurred" beyond recognition, "shown", or
                "none".

        Of several processes that share an evaluation, the first writes.

        Returns:
            The folder.

        Raises:
            MissingExtraError: If plots are wanted and matplotlib is not installed.
        """
        folder = Path(folder)
        if not processes().first:
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "report.json", [json.dumps(self.to_dict(), ensure_ascii=False, indent=2), "\n"])
        lines = (json.dumps(record.to_dict(), ensure_ascii=False) + "\n" for record in self.records)
        _write(folder / "results.jsonl", lines)
        drawn: list[str] = []
        if plots:
            from facemllm.evaluation.plots import draw_all

            drawn = draw_all(self, folder)
        _write(folder / "report.md", [render_markdown(self.summary, drawn)])
        _write(folder / "report.html", [self.to_html(faces=faces)])
        return folder

    def __str__(self) -> str:
        return self.to_markdown()


def _write(path: Path, lines: Iterable[str]) -> None:
    """Replace a file in one step, so that nobody reads half of it."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.writelines(lines)
    part.replace(path)
