"""FER+: the pictures of FER2013, labelled again by ten raters each, with contempt as an eighth class.

``fer2013new.csv`` has the votes, one row for each row of FER2013 and in the same order. The pictures come
from the csv file of FER2013 beside it, or from the folders that the publishers' script makes of it.
Source: Barsoum et al., "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
Distribution", ICMI 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facemllm.data.readers import fer2013_csv
from facemllm.data.readers.base import NOT_ASKED, READERS, Reader, Unusable
from facemllm.data.readers.tables import Row, csv_rows
from facemllm.data.schema import FaceSample
from facemllm.data.vocabularies import FERPLUS_VOTES

_VOTES = "fer2013new.csv"
_FOLDERS = {"train": "FER2013Train", "validation": "FER2013Valid", "test": "FER2013Test"}
_RATERS = 10


@READERS.register("ferplus")
class FERPlus(Reader):
    """Official splits ``train``, ``validation`` and ``test``.

    The label is what most raters said; a picture without a single most frequent label is skipped, and so is
    one in which most saw no face. Where most said unknown, the expression cannot be told. All votes are
    kept.
    """

    name = "ferplus"
    licence = "MIT for the votes; FER2013 (research) for the pictures"
    layout = f"{_VOTES} beside fer2013.csv, or beside FER2013Train/, FER2013Valid/ and FER2013Test/"
    splits = ("train", "validation", "test")
    folders = ("ferplus", "fer+")
    consent = NOT_ASKED
    vocabularies = (FERPLUS_VOTES,)

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        return (folder / _VOTES).is_file() and (
            fer2013_csv.find_table(folder) is not None
            or any((folder / name).is_dir() for name in _FOLDERS.values())
        )

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of all splits."""
        table = fer2013_csv.find_table(self.root)
        faces = fer2013_csv.rows(table) if table else iter(())
        for where, text, row in csv_rows(self.root / _VOTES, ("Usage", *FERPLUS_VOTES.codes)):
            _, _, face = next(faces, (0, "", None))
            if table:
                yield from self.attempt(where, text, self._read_row, row, table, face)
            else:
                yield from self.attempt(where, text, self._read_file, row)
        if table and next(faces, None) is not None:
            self.skip(
                _VOTES, table.name, "has fewer rows than the pictures, so some may be given wrong votes"
            )

    def _read_row(self, row: Row | None, table: Path, face: fer2013_csv.Face | None) -> FaceSample:
        fields, split = _fields(row)
        face = fer2013_csv.checked(face)
        if fer2013_csv.USAGES[face.usage] != split:
            raise Unusable(
                "Usage is not that of the picture in the same row: the files are in different order"
            )
        place = f"{table.name}#{face.offset}"
        size = (fer2013_csv.SIDE, fer2013_csv.SIDE)
        return self.record(place, str(table.with_name(place)), size=size, split=split, **fields)

    def _read_file(self, row: Row | None) -> FaceSample:
        fields, split = _fields(row)
        name = (row or {}).get("Image name", "")
        if not name:
            raise Unusable("no image name: the publishers took the picture out")
        return self.sample(self.root / _FOLDERS[split] / name, split=split, **fields)


def _fields(row: Row | None) -> tuple[dict[str, Any], str]:
    if row is None:
        raise Unusable("wrong number of fields")
    if row["Usage"] not in fer2013_csv.USAGES:
        raise Unusable("unknown Usage")
    split = fer2013_csv.USAGES[row["Usage"]]
    counts = {FERPLUS_VOTES.label(code): row[code] for code in FERPLUS_VOTES.codes}
    if not all(count.isdecimal() for count in counts.values()):
        raise Unusable("votes are not whole numbers")
    votes = {str(label): int(count) for label, count in counts.items() if int(count)}
    if not 0 < sum(votes.values()) <= _RATERS:
        raise Unusable(f"not the votes of at most {_RATERS} raters")
    most = [label for label, count in votes.items() if count == max(votes.values())]
    if len(most) > 1:
        raise Unusable("raters disagree: no single most frequent label")
    if most == ["no face"]:
        raise Unusable("most raters saw no face")
    labels: dict[str, Any] = {"expression_votes": votes}
    if most == ["unknown"]:
        return {"labels": labels, "cannot_tell": ("expression",)}, split
    return {"labels": {"expression": most[0], **labels}}, split
