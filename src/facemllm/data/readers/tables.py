"""Reading of label files line by line: csv with a header, plain lines, and lists that belong together."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from facemllm.core.errors import DatasetError

Row: TypeAlias = dict[str, str]


def csv_rows(
    path: Path, required: Sequence[str], *, delimiter: str = ","
) -> Iterator[tuple[str, str, Row | None]]:
    """Yield where each row of a csv file stands, its text, and its fields by column.

    Names and values are stripped, because some published headers have spaces before their names. The row is
    None where its number of fields is not that of the header, or it cannot be read as csv: behind a quotation
    mark that is never closed, such a row may be many lines long, which ``where`` then names.

    Raises:
        DatasetError: If a required column is missing.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = _readable(csv.reader(file, delimiter=delimiter, skipinitialspace=True))
        names = [name.strip() for name in next(rows, (0, 0, []))[2] or ()]
        missing = [column for column in required if column not in names]
        if missing:
            raise DatasetError(
                f"{path.name} lacks columns",
                given=", ".join(names)[:200] or "an empty file",
                expected=f"also {', '.join(missing)}",
                do="use the label file as published",
            )
        for first, last, fields in rows:
            if fields == []:
                continue
            lines = f"line {last}" if first == last else f"lines {first} to {last}"
            text = "a field without end" if fields is None else delimiter.join(fields)[:200]
            complete = fields is not None and len(fields) == len(names)
            values = (field.strip() for field in fields or ())
            row = dict(zip(names, values, strict=True)) if complete else None
            yield f"{path.name}, {lines}", text, row


def _readable(rows: Any) -> Iterator[tuple[int, int, list[str] | None]]:
    """Yield first line, last line and fields of each row of a csv reader, None for fields it cannot read."""
    while True:
        first = rows.line_num + 1
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error:
            fields = None
        yield first, rows.line_num, fields


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is not blank."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if text := line.strip():
                yield number, text


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
