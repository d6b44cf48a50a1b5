"""The lists of LFW: people and pairs, of View 1 (development) and View 2 (ten folds).

``peopleDevTrain.txt`` and ``pairsDevTrain.txt`` begin with a count; ``people.txt`` with the number of folds,
then a count before each fold; ``pairs.txt`` with ``10<tab>300``: ten folds, each with 300 matched pairs and
then 300 mismatched ones. Source: Huang et al., "Labeled Faces in the Wild", UMass Amherst 07-49, 2007.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from facemllm.core.errors import DatasetError
from facemllm.data.readers.tables import text_lines

VIEW_1 = {"dev-train": "DevTrain", "dev-test": "DevTest"}


class PairLine(NamedTuple):
    """One line of a list of pairs: two pictures by person and number, None where the line is malformed."""

    number: int
    text: str
    first: tuple[str, int] | None
    second: tuple[str, int] | None
    fold: int | None


def read_people(folder: Path, view: int) -> dict[str, tuple[str, int | None]]:
    """Return split and fold of each person of a view.

    Raises:
        DatasetError: If the lists of the view are missing, or a count disagrees with what follows.
    """
    if view == 1:
        found: dict[str, tuple[str, int | None]] = {}
        for split, suffix in VIEW_1.items():
            path = folder / f"people{suffix}.txt"
            if path.is_file():
                lines = text_lines(path)
                count = _count(path, next(lines, (1, ""))[1])
                names = [line.split("\t")[0].split()[0] for _, line in lines]
                _agree(path, count, len(names))
                found |= dict.fromkeys(names, (split, None))
        return found or _missing(folder, "peopleDevTrain.txt and peopleDevTest.txt")
    path = folder / "people.txt"
    if not path.is_file():
        return _missing(folder, "people.txt")
    lines = text_lines(path)
    folds = _count(path, next(lines, (1, ""))[1])
    people: dict[str, tuple[str, int | None]] = {}
    for fold in range(1, folds + 1):
        count = _count(path, next(lines, (0, ""))[1])
        names = [line.split()[0] for _, (_, line) in zip(range(count), lines, strict=False)]
        _agree(path, count, len(names))
        people |= dict.fromkeys(names, (f"fold{fold}", fold))
    return people


def read_pair_lines(path: Path) -> Iterator[PairLine]:
    """Yield the lines of a list of pairs, with the fold of each where the list has folds.

    Raises:
        DatasetError: If the first line is not a count, or the number of pairs is not the one it states.
    """
    lines = text_lines(path)
    head = next(lines, (1, ""))[1].split()
    if not 1 <= len(head) <= 2 or not all(field.isdecimal() for field in head):
        raise DatasetError(
            f"{path.name} does not begin with its counts",
            given=" ".join(head)[:80] or "an empty file",
            expected="'10<tab>300' in pairs.txt, a number in pairsDev*.txt",
            do="use the list as published",
        )
    folds, each = (int(head[0]), int(head[1])) if len(head) == 2 else (1, int(head[0]))
    count = 0
    for number, line in lines:
        fold = count // (2 * each) + 1 if len(head) == 2 else None
        count += 1
        yield PairLine(number, line, *_pair(line.split()), fold)
    _agree(path, 2 * folds * each, count)


def _pair(fields: list[str]) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
    if len(fields) == 3 and fields[1].isdecimal() and fields[2].isdecimal():
        return (fields[0], int(fields[1])), (fields[0], int(fields[2]))
    if len(fields) == 4 and fields[1].isdecimal() and fields[3].isdecimal():
        return (fields[0], int(fields[1])), (fields[2], int(fields[3]))
    return None, None


def _count(path: Path, line: str) -> int:
    if not line.isdecimal():
        raise DatasetError(
            f"{path.name} lacks a count",
            given=line[:80] or "the end of the file",
            expected="a number before the names",
            do="use the list as published",
        )
    return int(line)


def _agree(path: Path, stated: int, found: int) -> None:
    if stated != found:
        raise DatasetError(
            f"{path.name} is not complete",
            given=f"{found} lines",
            expected=f"{stated}, as its counts say",
            do="use the list as published",
        )


def _missing(folder: Path, names: str) -> dict[str, tuple[str, int | None]]:
    raise DatasetError(
        "cannot find the lists of people",
        given=str(folder),
        expected=names,
        do="put them beside the folders of people, or read without a view",
    )
