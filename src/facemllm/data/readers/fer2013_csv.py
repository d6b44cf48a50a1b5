"""The csv files of FER2013, whose pictures stand in the rows as numbers.

``fer2013.csv`` has the header ``emotion,pixels,Usage``; ``icml_face_data.csv`` holds the same rows under
``emotion, Usage, pixels``, with spaces before the names. ``train.csv`` and ``test.csv`` of the competition
have no Usage, and ``test.csv`` has no labels either.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from facemllm.core.errors import DatasetError
from facemllm.data.readers.base import Unusable
from facemllm.data.vocabularies import FER2013_EXPRESSIONS

TABLES = ("fer2013.csv", "icml_face_data.csv", "train.csv")
SIDE = 48
USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}


class Face(NamedTuple):
    """One row: where it begins in the file, its label and split."""

    offset: int
    emotion: str
    usage: str
    pixels: str


def find_table(folder: Path) -> Path | None:
    """Return the csv file of FER2013 in a folder, or None."""
    for name in TABLES:
        path = folder / name
        if path.is_file():
            with path.open("rb") as file:
                if {"emotion", "pixels"} <= set(_split(file.readline())):
                    return path
    return None


def rows(path: Path) -> Iterator[tuple[int, str, Face | None]]:
    """Yield line number, beginning of the text, and fields of each row; None where a field lacks.

    Raises:
        DatasetError: If the header does not have the columns of FER2013.
    """
    with path.open("rb") as file:
        names = _split(file.readline())
        if not {"emotion", "pixels"} <= set(names):
            raise DatasetError(
                f"{path.name} lacks columns",
                given=", ".join(names) or "an empty file",
                expected="emotion, pixels and, for all splits, Usage",
                do="use the label file as published",
            )
        number, offset = 1, file.tell()
        while line := file.readline():
            number += 1
            fields = _split(line)
            if any(fields):
                row = dict(zip(names, fields, strict=False)) if len(fields) == len(names) else None
                face = row and Face(offset, row["emotion"], row.get("Usage", "Training"), row["pixels"])
                yield number, line[:40].decode(errors="replace"), face or None
            offset = file.tell()


def checked(face: Face | None) -> Face:
    """Return the row if it can be used.

    Raises:
        Unusable: If a field lacks, or the split, the label or the picture is none.
    """
    if face is None:
        raise Unusable("wrong number of fields")
    if face.usage not in USAGES:
        raise Unusable("unknown Usage")
    if face.pixels.count(" ") != SIDE * SIDE - 1:
        raise Unusable(f"not {SIDE}x{SIDE} pixels")
    if not face.pixels.replace(" ", "").isdecimal():
        raise Unusable("a pixel is not a number")
    if max(map(int, set(face.pixels.split()))) > 255:
        raise Unusable("a pixel is beyond 255")
    return face


def label(face: Face) -> str:
    """Return the expression of a row.

    Raises:
        Unusable: If the code is unknown.
    """
    if not face.emotion.isdecimal() or int(face.emotion) >= len(FER2013_EXPRESSIONS):
        raise Unusable("unknown emotion code")
    return FER2013_EXPRESSIONS[int(face.emotion)]


def _split(line: bytes) -> list[str]:
    text = line.decode("utf-8-sig", errors="replace").strip()
    return [field.strip().strip('"').strip() for field in text.split(",")] if text else []
