"""Writes the measured numbers into README.md and the model card, between ``<!-- numbers -->`` markers.

    python -m benchmarks.table

It reads ``peers.json``, ``ask_speed.json``, ``many_questions_*.json``, ``train_step_*.json`` and
``DATASET/report.json`` (from ``facemllm evaluate``) in ``benchmarks/results``. What is missing there is left
out and named on the terminal. The speed of the engine goes between ``<!-- engine -->`` markers, scores by
perceived group between ``<!-- groups -->``, what comes of other people's words between ``<!-- wordings -->``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.group_table import group_table
from benchmarks.pages import filled

ROOT = Path(__file__).parents[1]
TARGETS = (
    ROOT / "README.md",
    ROOT / "src" / "facemllm" / "assets" / "facemllm-tiny" / "README.md",
    ROOT / "docs" / "ops.md",
)
DATASETS = {
    "fer2013": "FER2013", "utkface": "UTKFace", "fairface": "FairFace", "pointing04": "Pointing'04",
    "celeba": "CelebA", "lfw": "LFW",
}  # fmt: skip
EXPECTED = ("fer2013", "utkface", "fairface", "pointing04")
"""Datasets whose reports the README's table should not be without."""

METRICS = {
    "mae": "years off",
    "mae_pan": "pan, degrees off",
    "mae_tilt": "tilt, degrees off",
    "accuracy": "% right",
}
EMPTY = "*Nothing measured yet: see `benchmarks/README.md`.*"


@dataclass(frozen=True)
class Row:
    """A line of the table: one metric of one task on one dataset."""

    where: str
    task: str
    metric: str
    answers: Mapping[str, Any]
    heads: Mapping[str, Any] | None = None
    peer: tuple[str, Mapping[str, Any]] | None = None

    def cells(self) -> list[str]:
        """Return the line's cells; a peer that was measured on fewer faces says on how many."""
        n = self.answers["n"]
        read = self.answers.get("answered", n)
        peer = ""
        if self.peer is not None:
            name, one = self.peer
            fewer = "" if one["n"] == n else f", on {one['n']:,}"
            peer = f"{_value(one, self.metric)} ({name}{fewer})"
        return [
            self.where,
            f"{self.task}, {METRICS[self.metric]}",
            f"{n:,}" if read == n else f"{read:,} of {n:,}",
            _value(self.answers, self.metric, bounds=True),
            "" if self.heads is None else _value(self.heads, self.metric),
            peer,
        ]


def collect(results: Path) -> tuple[list[Row], dict[str, Any] | None, list[str]]:
    """Return the table's rows, the speed measurements, and which files are missing."""
    missing: list[str] = []
    reports = {
        name: found
        for name in DATASETS
        if (found := _read(results / name / "report.json", missing if name in EXPECTED else []))
    }
    compared: dict[str, dict[str, Any]] = {}
    for one in (_read(results / "peers.json", missing) or {"comparisons": []})["comparisons"]:
        compared[one["dataset"]] = one
    rows = [row for name in DATASETS for row in _rows(name, reports.get(name), compared.get(name))]
    return rows, _read(results / "ask_speed.json", missing), missing


def _rows(name: str, report: dict[str, Any] | None, compared: dict[str, Any] | None) -> Iterator[Row]:
    split = (report or compared or {}).get("split")
    where = DATASETS[name] + (f" {split}" if split else "")
    tasks = report["tasks"] if report else {}
    rivals = compared["tasks"] if compared else {}
    for task in dict.fromkeys([*tasks, *rivals]):
        answers, heads, peer = tasks.get(task), tasks.get(task, {}).get("head"), None
        # In peers.json systems stand in order: the model, its heads where it has them, the peer.
        for position, (system, one) in enumerate(rivals.get(task, {}).items()):
            if position == 0:
                answers = answers or one
            elif system.endswith(" heads"):
                heads = heads or one
            else:
                peer = (system, one)
        if answers is None:
            continue
        keys = [key for key in METRICS if answers.get(key) is not None]
        if "mae_pan" in keys:
            keys.remove("mae")  # the mean of both angles says less than each
        for key in keys:
            # Where a dataset has no years, the answer is scored by the bin it falls into.
            named = "age bin" if (task, key) == ("age", "accuracy") else task
            yield Row(where, named, key, answers, heads, peer)


def render(rows: list[Row], speed: Mapping[str, Any] | None) -> str:
    """Return the block between the markers.

    Example:
        >>> answers = {"n": 1200, "accuracy": 0.912, "intervals": {"accuracy": [0.9, 0.92]}}
        >>> text = render([Row("UTKFace test", "gender", "accuracy", answers)], None)
        >>> print(text.splitlines()[-1].strip("| "))
        UTKFace test | gender, % right | 1,200 | **91.2** (90.0 to 92.0)
    """
    head = ["faces", "task", "n", "answers (95 % interval)", "heads", "peer"]
    parts = []
    if rows:
        lines = [head, ["---"] * 2 + ["---:"] * 3 + ["---"], *(row.cells() for row in rows)]
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    if speed is not None:
        parts.append(_speed(speed))
    return "\n\n".join(parts) or EMPTY


def engine(results: Path, missing: list[str]) -> str:
    """Return how fast the engine is, against transformers' LLaVA with the same weights, as a table."""
    lines = [["what", "facemllm", "transformers LLaVA", "times as fast", "peak memory"], ["---"] * 5]

    def row(what: str, one: Mapping[str, Any]) -> None:
        low, high = one["ratio_range"]
        seconds, peak = one["seconds"], one["peak_mib"]
        lines.append(
            [
                what,
                f"{seconds['facemllm']:.2f} s",
                f"{seconds['peer']:.2f} s",
                f"**{one['ratio']:.1f}** ({low:.1f} to {high:.1f})",
                f"{peak['facemllm']:,} / {peak['peer']:,} MiB",
            ]
        )

    for name in ("40", "40_bfloat16", "8", "1"):
        if found := _read(results / f"many_questions_{name}.json", missing):
            kind = f"{found['questions']} question{'s' * (found['questions'] > 1)}, {found['dtype']}"
            row(f"{kind}, one-token answers", found["one_token"])
            if free := found.get("up_to_8_tokens"):
                row(f"{kind}, answers of up to 8 tokens", free)
            if (by_hand := found.get("peer_with_copied_prefix")) and name == "40":
                row(f"{kind}, one-token answers; the peer's cache of the picture copied by hand", by_hand)
    for name in ("40", "8", "1"):
        if found := _read(results / f"train_step_{name}.json", missing):
            pictures = "a picture" if found["images"] == 1 else f"each of {found['images']} pictures"
            pairs = f"{found['branches']} pair{'s' * (found['branches'] > 1)} about {pictures}"
            row(f"training on {pairs}", found)
    if len(lines) == 2:
        return EMPTY
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def groups(results: Path) -> str:
    """Return the scores by perceived group of the datasets whose faces have such labels."""
    tables = []
    for name in DATASETS:
        if report := _read(results / name / "report.json", []):
            columns = [one.get("by_group", {}).get("columns", {}) for one in report["tasks"].values()]
            if any("gender" in one or "ethnicity" in one for one in columns):
                tables.append(group_table(f"{DATASETS[name]} {report['split']}", report))
    return "\n\n".join(tables) or EMPTY


def wordings(results: Path, missing: list[str]) -> str:
    """Return how questions in other people's words are answered, beside the usual wording."""
    found = _read(results / "wordings.json", missing)
    if found is None:
        return EMPTY
    lines = [
        "| task | questions | answered | as in usual words | usual words | others' words |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for task, one in found["tasks"].items():
        if "declined" in one:
            declined = f'{100 * one["declined"]:.0f} % met with "I don\'t know."'
            lines.append(f"| no task it knows | {one['questions']} | {declined} | | | |")
            continue
        shares = [f"{100 * one[key]:.0f} %" if key in one else "" for key in ("answered", "agrees")]
        scores = [_scored(task, one.get(key)) for key in ("score_usual", "score_others")]
        lines.append(f"| {task.replace('_', ' ')} | {one['questions']} | {' | '.join(shares + scores)} |")
    return "\n".join(lines)


def _scored(task: str, score: float | None) -> str:
    if score is None:
        return ""
    off = {"age": "years", "pose": "degrees"}.get(task)
    return f"{score:.1f} {off} off" if off else f"{100 * score:.0f} % right"


def _speed(speed: Mapping[str, Any]) -> str:
    photo, crop, pictures = speed["questions_photo"], speed["questions_crop"], speed["pictures_crop"]
    shares = ", ".join(
        f"{name} {100 * share:.0f} %" for name, share in speed["one_question"]["shares"].items()
    )
    count = speed["questions"]
    took = f"{speed['one_question']['seconds']:.2f} s"
    threads = f"{speed['threads']} thread{'s' * (speed['threads'] != 1)}"
    return (
        f"One question about a photo takes {took} on {speed['device']} with {threads} ({shares}). "
        f"{count} questions in one call take {photo['ratio']:.2f} of the time of {count} calls "
        f"({crop['ratio']:.2f} where the face is already cropped); {speed['pictures']} cropped faces in one "
        f"call take {pictures['ratio']:.2f} of the time of one by one. "
        f"Peak memory {photo['peak_mib']['one_call']:,} MiB."
    )


def _value(result: Mapping[str, Any], metric: str, *, bounds: bool = False) -> str:
    value = result.get(metric)
    if value is None:
        return ""
    scale, digits = (100, 1) if metric == "accuracy" else (1, 2)
    text = f"{scale * value:.{digits}f}"
    span = result.get("intervals", {}).get(metric)
    if not bounds:
        return text
    return f"**{text}**" + (
        f" ({scale * span[0]:.{digits}f} to {scale * span[1]:.{digits}f})" if span else ""
    )


def _read(path: Path, missing: list[str]) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        missing.append(f"{path} ({type(error).__name__})")
        return None


def rewrite(path: Path, blocks: Mapping[str, str]) -> str:
    """Put each block between its markers in a file and return what happened, as a word for a person."""
    if not path.is_file():
        return "missing"
    old = path.read_text(encoding="utf-8")
    new, found = filled(old, blocks)
    if not found:
        return "has no markers such as <!-- numbers --> ... <!-- /numbers -->"
    path.write_text(new, encoding="utf-8")
    return "unchanged" if new == old else "rewritten"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument(
        "files", nargs="*", type=Path, default=list(TARGETS), help="default: README and model card"
    )
    args = parser.parse_args()
    rows, speed, missing = collect(args.results)
    blocks = {
        "numbers": render(rows, speed),
        "engine": engine(args.results, missing),
        "groups": groups(args.results),
        "wordings": wordings(args.results, missing),
    }
    for path in args.files:
        print(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}: {rewrite(path, blocks)}")
    for name in missing:
        print(f"missing: {name}", file=sys.stderr)


if __name__ == "__main__":
    main()
