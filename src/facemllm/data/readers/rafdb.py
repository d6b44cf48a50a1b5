"""RAF-DB, basic expressions: seven classes of 15,339 faces from the web, with gender, race and age group.

Source: Li, Deng and Du, "Reliable Crowdsourcing and Deep Locality-Preserving Learning", CVPR 2017.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facemllm.data.readers.base import NOT_ASKED, READERS, Reader, Unusable
from facemllm.data.readers.tables import text_lines
from facemllm.data.schema import FaceSample
from facemllm.data.vocabularies import RAFDB_AGES, RAFDB_EXPRESSIONS, RAFDB_GENDERS, RAFDB_RACES

_LIST = "list_patition_label.txt"  # spelt so by its publishers
_NAME = re.compile(r"(train|test)_\d+")
_YEARS = {"0-3": (0, 3), "4-19": (4, 19), "20-39": (20, 39), "40-69": (40, 69), "70+": (70, 120)}


@READERS.register("rafdb")
class RAFDB(Reader):
    """Official splits ``train`` and ``test``, told by the name of each picture.

    Where ``Annotation/manual`` is there, its sixth to eighth line add gender, race and age group; a gender
    that raters were unsure of is among ``cannot_tell``. The five landmarks in it belong to the pictures
    before alignment, so they are left out, as boxes are.
    """

    name = "rafdb"
    licence = "non-commercial research, on request"
    layout = f"basic/EmoLabel/{_LIST} (train_00001.jpg 5) beside basic/Image/aligned/train_00001_aligned.jpg"
    splits = ("train", "test")
    folders = ("raf-db", "rafdb", "basic")
    consent = NOT_ASKED
    vocabularies = (RAFDB_EXPRESSIONS, RAFDB_GENDERS, RAFDB_RACES, RAFDB_AGES)

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        return any((base / "EmoLabel" / _LIST).is_file() for base in (folder, folder / "basic"))

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of both splits."""
        base = self.root if (self.root / "EmoLabel").is_dir() else self.root / "basic"
        manual = base / "Annotation" / "manual"
        for number, line in text_lines(base / "EmoLabel" / _LIST):
            yield from self.attempt(f"{_LIST}, line {number}", line, self._read_line, line, base, manual)

    def _read_line(self, line: str, base: Path, manual: Path) -> FaceSample:
        fields = line.split()
        stem = fields[0].rpartition(".")[0]
        match = _NAME.fullmatch(stem)
        if len(fields) != 2 or match is None:
            raise Unusable("expected a name such as train_00001.jpg and a code")
        expression = RAFDB_EXPRESSIONS.label(fields[1])
        if expression is None:
            raise Unusable("unknown expression code")
        found: dict[str, Any] = {"labels": {"expression": expression}, "groups": {}}
        if manual.is_dir():
            found = _attributes(manual / f"{stem}_manu_attri.txt", found)
        aligned = base / "Image" / "aligned" / f"{stem}_aligned.jpg"
        return self.sample(aligned, split=match[1], **found)


def _attributes(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Add what stands in the lines after the landmarks."""
    try:
        lines = path.read_text(errors="replace").split("\n")
        gender, race, age = (line.strip() for line in lines[5:8])
    except (OSError, ValueError):
        raise Unusable("no five landmarks, gender, race and age group in its attribute file") from None
    codes = (RAFDB_GENDERS.label(gender), RAFDB_RACES.label(race), RAFDB_AGES.label(age))
    if None in codes:
        raise Unusable("unknown code of gender, race or age group in its attribute file")
    labels, groups = found["labels"], {"ethnicity": codes[1], "age_group": codes[2]}
    labels |= {"ethnicity": codes[1], "age_range": _YEARS[str(codes[2])]}
    if codes[0] == "unsure":
        return {"labels": labels, "groups": groups, "cannot_tell": ("gender",)}
    return {"labels": labels | {"gender": codes[0]}, "groups": groups | {"gender": codes[0]}}
