"""BP4D: action units in films of 41 people doing eight tasks each.

Source: Zhang et al., "BP4D-Spontaneous", Image and Vision Computing 2014; fold lists of the three-fold
protocol as in Luo et al., "Learning Multi-dimensional Edge Feature-based AU Relation Graph", IJCAI 2022.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from facemllm.data.readers.base import READERS, VOLUNTEERS, Reader, Unusable
from facemllm.data.readers.frames import numbered
from facemllm.data.readers.tables import Row, csv_rows
from facemllm.data.schema import FaceSample
from facemllm.data.vocabularies import ACTION_UNITS, BP4D_UNITS

_TESTED = {
    3: "F001 M007 F018 F008 F002 M004 F010 F009 M012 M001 F016 M014 F023 M008",
    2: "M011 F003 M010 M002 F005 F022 M018 M017 F013 M016 F020 F011 M013 M005",
    1: "F007 F015 F006 F019 M006 M009 F012 M003 F004 F021 F017 M015 F014",
}
FOLDS = {subject: fold for fold, subjects in _TESTED.items() for subject in subjects.split()}
"""The fold in which each subject is tested."""

_NAME = re.compile(r"([FM]\d{3})_(T\d)\.csv")
_LABELS = ("AUCoding/AU_OCC", "AU_OCC", "AU_labels")
_IMAGES = ("img", "images", "2D+3D", "Sequences", "")
_NOT_CODED = "9"
_FRAME = "0"


@READERS.register("bp4d")
class BP4D(Reader):
    """Three folds without common people: ``fold1`` holds the people tested in fold 1, and so on.

    The column named 0 is the frame; a 9 means that the unit was not coded there, so it cannot be told. The
    sex is in each person's code and becomes a group.
    """

    name = "bp4d"
    licence = "non-commercial research, on signed agreement and a fee"
    layout = "AUCoding/AU_OCC/F001_T1.csv (header 0,1,2,...: frame and units) beside img/F001/T1/2440.jpg ..."
    splits = ("fold1", "fold2", "fold3")
    folders = ("bp4d",)
    consent = VOLUNTEERS
    vocabularies = (ACTION_UNITS,)

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        labels = _labels(folder)
        return labels is not None and any(_NAME.fullmatch(path.name) for path in labels.iterdir())

    def read(self) -> Iterator[FaceSample]:
        """Yield every labelled frame that there is a picture of."""
        for table in sorted((_labels(self.root) or self.root).glob("*.csv")):
            match = _NAME.fullmatch(table.name)
            if match is None or match[1] not in FOLDS:
                self.skip(
                    f"{table.parent.name}/", table.name, "not the table of one of the 41 people and 8 tasks"
                )
                continue
            person, task = match.groups()
            folders = (self.root / place / person / task for place in _IMAGES)
            pictures = numbered(
                next((folder for folder in folders if folder.is_dir()), self.root / person / task)
            )
            columns = (_FRAME, *(unit.removeprefix("AU") for unit in BP4D_UNITS))
            for where, text, row in csv_rows(table, columns):
                yield from self.attempt(where, text, self._read_row, row, pictures, person, task)

    def _read_row(self, row: Row | None, pictures: dict[int, Path], person: str, task: str) -> FaceSample:
        if row is None or not row[_FRAME].isdecimal():
            raise Unusable("no frame or a wrong number of fields")
        codes = {unit: row[unit.removeprefix("AU")] for unit in BP4D_UNITS}
        if not set(codes.values()) <= {"0", "1", _NOT_CODED}:
            raise Unusable("a code is none of 0, 1 and 9")
        coded = {unit: code == "1" for unit, code in codes.items() if code != _NOT_CODED}
        if not coded:
            raise Unusable("no action unit is coded in this frame")
        if int(row[_FRAME]) not in pictures:
            raise Unusable("image not found")
        return self.sample(
            pictures[int(row[_FRAME])],
            labels={"action_units": coded},
            cannot_tell=tuple(f"action_units/{unit}" for unit in codes if unit not in coded),
            groups={"person": person, "task": task, "gender": "female" if person[0] == "F" else "male"},
            split=f"fold{FOLDS[person]}",
            fold=FOLDS[person],
            identity=person,
        )


def _labels(folder: Path) -> Path | None:
    return next((folder / name for name in _LABELS if (folder / name).is_dir()), None)
