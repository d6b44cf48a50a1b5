"""Charts as inline SVG: no script, no font, no file beside the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_INK, _SOFT, _BLUE, _PALE = "#1d2733", "#8a96a3", "#1f6f8b", "#cfe3ea"
_ROW, _LABEL, _WIDTH = 24, 116, 360
_MOST_LETTERS = 17


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Return a confusion matrix; every cell has its share of the row and, as a tooltip, its count."""
    cell, left, top = 36, 92, 70
    rows, columns = len(counts), len(labels)
    parts = []
    for index, name in enumerate(labels):
        x = left + index * cell + cell / 2
        parts.append(
            f'<text x="{x}" y="{top - 6}" transform="rotate(-40 {x} {top - 6})" class="s">'
            f"{_short(name, 14)}</text>"
        )
    for row, values in enumerate(counts):
        total = sum(values)
        y = top + row * cell
        parts.append(
            f'<text x="{left - 6}" y="{y + cell / 2 + 4}" class="s e">{_short(labels[row], 14)}</text>'
        )
        for column, count in enumerate(values):
            share = count / total if total else 0.0
            x = left + column * cell
            ink = "#fff" if share > 0.5 else _INK
            parts.append(
                f"<g><title>{escape(labels[row])} answered as {escape(labels[column])}: {count}</title>"
                f'<rect x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" fill="{_shade(share)}"/>'
                f'<text x="{x + cell / 2 - 0.5}" y="{y + cell / 2 + 4}" class="s m" fill="{ink}">'
                f"{100 * share:.0f}</text></g>"
            )
    return _svg(
        left + columns * cell + 40, top + rows * cell + 4, parts, "confusion matrix, per cent of each label"
    )


def bars(cells: Mapping[str, Mapping[str, Any]], overall: float, per_cent: bool) -> str:
    """Return a bar for each group with its interval, and a line at the overall value."""
    shown = {name: cell for name, cell in cells.items() if "value" in cell}
    bounds = [bound for cell in shown.values() for bound in (cell["interval"] or [cell["value"]])]
    most = max([*bounds, overall, 1.0 if per_cent else 0.0]) or 1.0
    room = _WIDTH - _LABEL - 96

    def at(value: float) -> float:
        return round(_LABEL + room * value / most, 1)

    parts = []
    for index, (name, cell) in enumerate(shown.items()):
        y = 6 + index * _ROW
        value = f"{100 * cell['value']:.1f}" if per_cent else f"{cell['value']:.2f}"
        parts.append(f'<text x="{_LABEL - 8}" y="{y + 15}" class="e">{_short(name)}</text>')
        length = max(0.0, at(cell["value"]) - _LABEL)
        parts.append(f'<rect x="{_LABEL}" y="{y + 3}" width="{length:.1f}" height="16" fill="{_PALE}"/>')
        if cell["interval"]:
            low, high = map(at, cell["interval"])
            whisker = f"M{low} {y + 11}H{high}M{low} {y + 7}v8M{high} {y + 7}v8"
            parts.append(f'<path d="{whisker}" stroke="{_INK}" fill="none"/>')
        parts.append(
            f'<text x="{_WIDTH - 90}" y="{y + 15}">{value} <tspan class="q">n {cell["n"]}</tspan></text>'
        )
    height = 12 + len(shown) * _ROW
    parts.append(f'<path d="M{at(overall)} 2V{height - 4}" stroke="{_BLUE}" stroke-dasharray="4 3"/>')
    return _svg(
        _WIDTH, height, parts, "value of each group with its 95 % interval; the dashed line is overall"
    )


def intervals(rows: Mapping[str, tuple[float, Sequence[float] | None]], per_cent: bool, best: str) -> str:
    """Return the value of each system as a dot with its interval, on one scale; the best one is filled.

    Args:
        rows: Name to value and interval.
        per_cent: Values are shares.
        best: Name of the best.
    """
    bounds = [bound for value, span in rows.values() for bound in (span or [value])]
    low, high = min(bounds), max(bounds)
    margin = (high - low or abs(high) or 1.0) * 0.08
    low, high = max(0.0, low - margin), high + margin
    room, tall = _WIDTH - 84, 46

    def at(value: float) -> float:
        return round(8 + room * (value - low) / (high - low), 1)

    parts = []
    for index, (name, (value, span)) in enumerate(rows.items()):
        y = 32 + index * tall  # the name stands above its line
        said = f"{100 * value:.1f} %" if per_cent else f"{value:.2f}"
        parts.append(f'<text x="2" y="{y - 14}" class="n">{_short(name, 44)}</text>')
        if span:
            parts.append(f'<path d="M{at(span[0])} {y}H{at(span[1])}" stroke="{_SOFT}" stroke-width="3"/>')
        fill = _BLUE if name == best else "#fff"
        parts.append(
            f'<circle cx="{at(value)}" cy="{y}" r="6" fill="{fill}" stroke="{_BLUE}" stroke-width="2">'
            f"<title>{escape(name)}: {said}</title></circle>"
        )
        parts.append(f'<text x="{_WIDTH - 64}" y="{y + 5}" class="n">{said}</text>')
    return _svg(_WIDTH, 4 + len(rows) * tall, parts, "value of each system with its 95 % interval")


def reliability(curve: Sequence[Mapping[str, Any]]) -> str:
    """Return accuracy against confidence, the size of a dot by the number of answers."""
    size, pad = 260, 34

    def at(x: float, y: float) -> tuple[float, float]:
        return round(pad + x * size, 1), round(pad / 2 + (1 - y) * size, 1)

    most = max((one["n"] for one in curve), default=1)
    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    parts = [f'<rect x="{x0}" y="{y1}" width="{size}" height="{size}" fill="none" stroke="{_SOFT}"/>',
             f'<path d="M{x0} {y0}L{x1} {y1}" stroke="{_SOFT}" stroke-dasharray="4 3"/>']  # fmt: skip
    points = [(at(one["confidence"], one["accuracy"]), one) for one in curve]
    parts.append(
        f'<polyline points="{" ".join(f"{x},{y}" for (x, y), _ in points)}" fill="none" stroke="{_BLUE}"/>'
    )
    for (x, y), one in points:
        radius = 2 + 7 * (one["n"] / most) ** 0.5
        title = f"confidence {one['confidence']:.2f}, right {one['accuracy']:.2f}, n {one['n']}"
        dot = f'<circle cx="{x}" cy="{y}" r="{radius:.1f}" fill="{_BLUE}" fill-opacity=".6">'
        parts.append(f"{dot}<title>{title}</title></circle>")
    for tick in (0.0, 0.5, 1.0):
        (x, _), (_, y) = at(tick, 0), at(0, tick)
        parts.append(f'<text x="{x}" y="{y0 + 14}" class="s m">{tick:g}</text>')
        parts.append(f'<text x="{x0 - 5}" y="{y + 4}" class="s e">{tick:g}</text>')
    parts.append(f'<text x="{x0 + size / 2}" y="{y0 + 28}" class="s m">confidence</text>')
    parts.append(f'<text x="{x0 + 6}" y="{y1 + 14}" class="s">share right</text>')
    return _svg(size + pad + 14, size + pad + 20, parts, "share right against confidence")


def scatter(pairs: Sequence[tuple[float, float]], unit: str) -> str:
    """Return answers against labels."""
    size, pad, most = 260, 40, 1500
    step = -(-len(pairs) // most) or 1
    drawn = pairs[::step]
    values = [value for pair in drawn for value in pair] or [0.0, 1.0]
    low, high = min(values), max(max(values), min(values) + 1)

    def at(x: float, y: float) -> tuple[float, float]:
        return round(pad + (x - low) / (high - low) * size, 1), round(
            8 + (1 - (y - low) / (high - low)) * size, 1
        )

    (x0, y0), (x1, y1) = at(low, low), at(high, high)
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="2"/>' for x, y in (at(*pair) for pair in drawn))
    parts = [f'<rect x="{x0}" y="{y1}" width="{size}" height="{size}" fill="none" stroke="{_SOFT}"/>',
             f'<g fill="{_BLUE}" fill-opacity=".35">{dots}</g>',
             f'<path d="M{x0} {y0}L{x1} {y1}" stroke="{_INK}" stroke-dasharray="4 3"/>']  # fmt: skip
    for value in (low, high):
        (x, _), (_, y) = at(value, low), at(low, value)
        parts.append(f'<text x="{x}" y="{y0 + 14}" class="s m">{value:g}</text>')
        parts.append(f'<text x="{x0 - 4}" y="{y + 4}" class="s e">{value:g}</text>')
    parts.append(f'<text x="{x0 + size / 2}" y="{y0 + 14}" class="s m">label ({escape(unit)})</text>')
    parts.append(f'<text x="{x0 + 6}" y="{y1 + 14}" class="s">answer</text>')
    return _svg(size + pad + 22, size + 34, parts, "answers against labels")


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    box = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    drawn = f'<svg {box} role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return f'<div class="wide">{drawn}</div>'  # letters keep their size; what is too wide scrolls by itself


def _shade(share: float) -> str:
    """Return a colour between white and blue."""
    low, high = (255, 255, 255), (23, 84, 107)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(low, high, strict=True))


def _short(text: str, most: int = _MOST_LETTERS) -> str:
    return escape(text if len(text) <= most else text[: most - 1] + "…")
