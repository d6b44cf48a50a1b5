"""FairFace: perceived age group, gender and race of 108,501 faces, balanced by race.

Source: Karkkainen and Joo, "FairFace", WACV 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facemllm.data.readers.base import NOT_ASKED, READERS, Reader, Unusable
from facemllm.data.readers.tables import Row, csv_rows
from facemllm.data.schema import FaceSample
from facemllm.data.vocabularies import FAIRFACE_AGES, FAIRFACE_GENDERS, FAIRFACE_RACES

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
                for where, text, row in csv_rows(path, ("file", *_COLUMNS)):
                    yield from self.attempt(where, text, self._read_row, row, split)

    def _read_row(self, row: Row | None, split: str) -> FaceSample:
        if row is None or not row["file"]:
            raise Unusable("wrong number of fields")
        labels = {}
        for column, (task, vocabulary) in _COLUMNS.items():
            label = vocabulary.label(row[column])
            if label is None:
                raise Unusable(f"unknown {column}")
            labels[task] = label
        groups = dict(labels)
        if row.get("service_test"):
            groups["service_test"] = row["service_test"].lower()
        return self.sample(self.root / row["file"], labels=labels, groups=groups, split=split)
