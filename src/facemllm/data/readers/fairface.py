"""FairFace: perceived age group, gender and race of 108,501 faces, balanced by race.

Source: Karkkainen and Joo, "FairFace", WACV 2021.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from facemllm.core.errors import DatasetError
from facemllm.data.readers.base import NOT_ASKED, READERS, Reader, Unusable
from facemllm.data.schema import FaceSample
from facemllm.data.vocabularies import FAIRFACE_AGES, FAIRFACE_GENDERS, FAIRFACE_RACES

_SURPLUS = "surplus fields"
_COLUMNS = {
    "age": ("age_bin", FAIRFACE_AGES),
    "gender": ("gender", FAIRFACE_GENDERS),
    "race": ("ethnicity", FAIRFACE_RACES),
}


@READERS.register("fairface")
class FairFace(Reader):
    """Official splits ``train`` and ``val``; the column service_test is kept as a group."""

    name = "fairface"
    licence = "CC BY 4.0"
    layout = "fairface_label_{train,val}.csv (file,age,gender,race,...) beside train/ and val/"
    splits = ("train", "val")
    folders = ("fairface",)
    consent = NOT_ASKED
    vocabularies = (FAIRFACE_AGES, FAIRFACE_GENDERS, FAIRFACE_RACES)

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        return any((folder / f"fairface_label_{split}.csv").is_file() for split in self.splits)

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of all splits."""
        for split in self.splits:
            path = self.root / f"fairface_label_{split}.csv"
            if path.is_file():
                yield from self._read_labels(path, split)

    def _read_labels(self, path: Path, split: str) -> Iterator[FaceSample]:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = csv.DictReader(file, restkey=_SURPLUS, skipinitialspace=True)
            missing = {"file", *_COLUMNS} - set(rows.fieldnames or ())
            if missing:
                raise DatasetError(
                    f"{path.name} lacks columns",
                    given=", ".join(rows.fieldnames or ["an empty file"]),
                    expected=f"also {', '.join(sorted(missing))}",
                    do="use the label file as published",
                )
            for row in rows:
                text = ",".join(str(value) for value in row.values())
                yield from self.attempt(
                    f"{path.name}, line {rows.line_num}", text, self._read_row, row, split
                )

    def _read_row(self, row: dict[str, str | None], split: str) -> FaceSample:
        if not row["file"] or None in row.values() or _SURPLUS in row:
            raise Unusable("wrong number of fields")
        labels = {}
        for column, (task, vocabulary) in _COLUMNS.items():
            label = vocabulary.label((row[column] or "").strip())
            if label is None:
                raise Unusable(f"unknown {column}")
            labels[task] = label
        groups = dict(labels)
        if row.get("service_test"):
            groups["service_test"] = str(row["service_test"]).strip().lower()
        return self.sample(self.root / row["file"].strip(), labels=labels, groups=groups, split=split)
