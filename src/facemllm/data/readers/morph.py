"""MORPH II: 55,134 booking photos of 13,617 people, with age, sex and race.

The age and sex stand in each file name (``009055_1M54.JPG``); the race stands only in the csv file. Published
results use several splits that do not agree with each other, and none is official.
Source: Ricanek and Tesafaye, "MORPH: A Longitudinal Image Database of Normal Adult Age-Progression", FG 2006.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facemllm.data.readers.base import READERS, Reader, Unusable, images_in
from facemllm.data.readers.tables import Row, csv_rows
from facemllm.data.schema import FaceSample
from facemllm.data.splits import SPLITS, split_by_hash
from facemllm.data.vocabularies import MAX_AGE, MORPH_GENDERS, MORPH_RACES, age_bin

_NAME = re.compile(r"(\d+)_(\d+)([A-Z])(-?\d+)\.JPE?G", re.IGNORECASE)
_COLUMNS = ("id_num", "race", "gender", "age", "photo")


@READERS.register("morph")
class MORPH(Reader):
    """No official split: 80/10/10 by the hash of the subject's number, so no one straddles two splits.

    With a csv file (``id_num``, ``race``, ``gender``, ``age``, ``photo``) every row is read and must agree
    with its file's name; without one, names alone give age and sex. Race U (unknown) cannot be told; the
    letter I, which the publishers do not spell out, counts as other.
    """

    name = "morph"
    licence = "paid licence of the University of North Carolina Wilmington"
    layout = (
        "morph_2008_nonCommercial.csv (id_num,...,race,gender,...,age,...,photo) and "
        "Album2/009055_1M54.JPG ..."
    )
    splits = SPLITS
    folders = ("morph", "morph2", "morph_noncommercial")
    consent = "police booking photos released as public records; the people in them were not asked"
    vocabularies = (MORPH_GENDERS, MORPH_RACES)

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        if _table(folder) is not None:
            return True
        return any(_NAME.fullmatch(path.name) for place in _albums(folder) for path in place.iterdir())

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of all splits."""
        table = _table(self.root)
        if table is not None:
            for where, text, row in csv_rows(table, _COLUMNS):
                yield from self.attempt(where, text, self._read_row, row)
            return
        for folder in _albums(self.root):
            for image in images_in(folder):
                yield from self.attempt(f"{folder.name}/", image.name, self._read_name, image)

    def _read_row(self, row: Row | None) -> FaceSample:
        if row is None:
            raise Unusable("wrong number of fields")
        match = _NAME.fullmatch(Path(row["photo"]).name)
        if match is None:
            raise Unusable("photo is not [subject]_[number][sex][age].JPG")
        if int(match[1]) != _whole(row["id_num"]) or match[3].upper() != row["gender"]:
            raise Unusable("name of the photo contradicts subject or gender")
        race = "unknown" if row["race"] == "U" else MORPH_RACES.label(row["race"])
        if race is None:
            raise Unusable("unknown race code")
        return self._sample(self.root / row["photo"], match[1], row["gender"], row["age"], race)

    def _read_name(self, image: Path) -> FaceSample:
        match = _NAME.fullmatch(image.name)
        if match is None:
            raise Unusable("name is not [subject]_[number][sex][age].JPG")
        return self._sample(image, match[1], match[3].upper(), match[4], None)

    def _sample(self, image: Path, subject: str, sex: str, years: str, race: str | None) -> FaceSample:
        gender, age = MORPH_GENDERS.label(sex), _whole(years)
        if gender is None:
            raise Unusable("unknown gender code")
        if age is None or not 0 <= age <= MAX_AGE:
            raise Unusable("age out of range")
        labels: dict[str, Any] = {"age": float(age), "gender": gender}
        groups = {"age_bin": age_bin(age), "gender": gender}
        fields: dict[str, Any] = {"cannot_tell": ("ethnicity",)} if race == "unknown" else {}
        if race not in (None, "unknown"):
            labels["ethnicity"] = groups["ethnicity"] = str(race)
        split = split_by_hash(f"{int(subject):06d}", self.seed)
        return self.sample(image, labels=labels, groups=groups, split=split, identity=subject, **fields)


def _table(folder: Path) -> Path | None:
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            names = {name.strip() for name in file.readline().split(",")}
        if set(_COLUMNS) <= names:
            return path
    return None


def _albums(folder: Path) -> list[Path]:
    return [folder, *(child for child in sorted(folder.iterdir()) if child.is_dir())]


def _whole(text: str) -> int | None:
    return int(text) if text.lstrip("-").isdecimal() else None
