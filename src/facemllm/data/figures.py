"""Pictures of a dataset: bars of its labels and groups, and a sheet of samples with their labels."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facemllm.core.errors import ImageError, MissingExtraError
from facemllm.data.answers import render_age, render_pose
from facemllm.data.schema import FaceSample
from facemllm.data.statistics import spoken

_CELL, _CAPTION, _COLUMNS = 128, 44, 8
_MOST_BARS = 45


def draw_counts(title: str, counts: Mapping[str, int], path: Path) -> None:
    """Save bars of how many samples have each label.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", extra="eval", needed_for="drawing plots") from None
    labels = list(counts)[:_MOST_BARS]
    figure = Figure(figsize=(7, 1.2 + 0.28 * len(labels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.barh(range(len(labels)), [counts[label] for label in labels], color="#4477aa")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("samples")
    axes.set_title(title)
    for place, label in enumerate(labels):
        axes.text(counts[label], place, f" {counts[label]:,}", va="center", fontsize=8)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def draw_all(statistics: Mapping[str, Any], folder: Path) -> list[Path]:
    """Save a plot of every task and group; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    saved = []
    for name, title, counts in plots_of(statistics):
        draw_counts(title, counts, folder / name)
        saved.append(folder / name)
    return saved


def plots_of(statistics: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, int]]]:
    """Return file name, title and counts of the plot of every task and group."""
    found: list[tuple[str, str, Mapping[str, int]]] = [
        ("labels", task, entry["counts"]) for task, entry in statistics["labels"].items()
    ]
    for task, named in statistics["named"].items():
        found.append(("true labels", task, {name: entry["true"] for name, entry in named.items()}))
    for group, entry in statistics["groups"].items():
        if "counts" in entry and group not in statistics["labels"]:
            found.append(("group", group, entry["counts"]))
    return [
        (f"{kind}_{name}.png".replace(" ", "_"), f"{kind}: {spoken(name)}", counts)
        for kind, name, counts in found
    ]


def draw_sheet(samples: Sequence[FaceSample], path: Path, *, most: int = 40, seed: int = 0) -> int:
    """Save a sheet of drawn samples with their labels and face boxes; return how many could be shown."""
    from PIL import Image, ImageDraw

    from facemllm.processing.reading import load_image

    drawn = random.Random(seed).sample(list(samples), min(most, len(samples)))
    cells = []
    for sample in drawn:
        try:
            picture = load_image(sample.image)
        except ImageError:
            continue
        if sample.box is not None:
            edge = max(1, round(max(picture.size) / 120))
            ImageDraw.Draw(picture).rectangle(sample.box, outline="#ee6677", width=edge)
        picture.thumbnail((_CELL, _CELL))
        cells.append((picture, _words(sample)))
    rows = max(1, math.ceil(len(cells) / _COLUMNS))
    sheet = Image.new("RGB", (_COLUMNS * _CELL, rows * (_CELL + _CAPTION)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (picture, words) in enumerate(cells):
        x, y = place % _COLUMNS * _CELL, place // _COLUMNS * (_CELL + _CAPTION)
        sheet.paste(picture, (x + (_CELL - picture.width) // 2, y + (_CELL - picture.height) // 2))
        pen.text((x + 3, y + _CELL + 2), words, fill="black", font_size=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return len(cells)


def _words(sample: FaceSample) -> str:
    """Return the labels of a sample in at most three short lines."""
    said = []
    for task, value in sample.labels.items():
        if task == "age":
            said.append(render_age(value))
        elif task == "pose":
            said += render_pose(value["pan"], value["tilt"]).replace(" degrees", "").split(", ")
        elif isinstance(value, str):
            said.append(value)
        elif isinstance(value, dict) and all(isinstance(holds, bool) for holds in value.values()):
            said += [name for name, holds in value.items() if holds]
    lines, line = [], ""
    for word in said:
        if line and len(line) + len(word) > 20:
            lines.append(line)
            line = ""
        line = f"{line}, {word}" if line else word[:22]
    return "\n".join([*lines, line][:3])
