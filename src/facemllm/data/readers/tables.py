"""Reading of label files line by line: csv with a header, plain lines, and lists that belong together."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from facemllm.core.errors import DatasetError

SURPLUS = "surplus fields"
Row: TypeAlias = dict[str, str]


def csv_rows(
    path: Path, required: Sequence[str], *, delimiter: str = ","
) -> Iterator[tuple[str, str, Row | None]]:
    """Yield where each row of a csv file stands, its text, and its fields by column.

    Names and values are stripped, because some published headers have spaces before their names. The row is
    None where its number of fields is not that of the header.

    Raises:
        DatasetError: If a required column is missing.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = csv.reader(file, delimiter=delimiter)
        names = [name.strip() for name in next(rows, [])]
        missing = [column for column in required if column not in names]
        if missing:
            raise DatasetError(
                f"{path.name} lacks columns",
                given=", ".join(names) or "an empty file",
                expected=f"also {', '.join(missing)}",
                do="use the label file as published",
            )
        for fields in rows:
            if not fields:
                continue
            where, text = f"{path.name}, line {rows.line_num}", delimiter.join(fields)[:200]
            complete = len(fields) == len(names)
            values = (field.strip() for field in fields)
            yield where, text, dict(zip(names, values, strict=True)) if complete else None


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is not blank."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.strip()


class Companion:
    """A list of ``key value`` lines beside another list, read forward as the other is.

    Published lists of one dataset are in one order, so looking a key up mostly reads one line, and memory
    does not grow. Of lists in different orders, what was passed on the way is kept.

    Args:
        lines: The pairs, in the order of the file.

    Example:
        >>> splits = Companion(iter([("1.jpg", "0"), ("2.jpg", "2"), ("3.jpg", "1")]))
        >>> splits.get("2.jpg"), splits.get("1.jpg"), splits.get("9.jpg")
        ('2', '0', None)
    """

    def __init__(self, lines: Iterator[tuple[str, str]]) -> None:
        self._lines = lines
        self._passed: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        """Return the value of a key, or None if the list does not have it; a key is given out once."""
        if key in self._passed:
            return self._passed.pop(key)
        for name, value in self._lines:
            if name == key:
                return value
            self._passed[name] = value
        return None
