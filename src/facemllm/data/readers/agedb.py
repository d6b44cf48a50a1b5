"""AgeDB: 16,488 photos of 568 famous people with their ages, written in the file names.

Source: Moschoglou et al., "AgeDB: the First Manually Collected, In-the-Wild Age Database", CVPR Workshops
2017.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from facemllm.data.readers.base import NOT_ASKED, READERS, Reader, Unusable, images_in
from facemllm.data.schema import FaceSample
from facemllm.data.splits import SPLITS, split_by_hash
from facemllm.data.vocabularies import AGEDB_GENDERS, MAX_AGE, age_bin

_NAME = re.compile(r"(\d+)_(.+)_(\d+)_([a-z])\.(?:jpe?g|png)", re.IGNORECASE)


@READERS.register("agedb")
class AgeDB(Reader):
    """No official split for ages: 80/10/10 by the hash of the person's name.

    The pairs of AgeDB-30, a benchmark of verification, are another download and not read here.
    """

    name = "agedb"
    licence = "non-commercial research, on request"
    layout = (
        "images named [number]_[name]_[age]_[gender m or f].jpg in one folder, say 0_MariaCallas_35_f.jpg"
    )
    splits = SPLITS
    folders = ("agedb",)
    consent = NOT_ASKED
    vocabularies = (AGEDB_GENDERS,)

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        return any(_NAME.fullmatch(path.name) for path in folder.iterdir())

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of all splits."""
        for image in images_in(self.root):
            yield from self.attempt(self.root.name, image.name, self._read_image, image)

    def _read_image(self, image: Path) -> FaceSample:
        match = _NAME.fullmatch(image.name)
        if match is None:
            raise Unusable("name is not [number]_[name]_[age]_[gender]")
        age, gender = int(match[3]), AGEDB_GENDERS.label(match[4].lower())
        if age > MAX_AGE:
            raise Unusable("age out of range")
        if gender is None:
            raise Unusable("unknown gender code")
        return self.sample(
            image,
            labels={"age": float(age), "gender": gender},
            groups={"age_bin": age_bin(age), "gender": gender},
            split=split_by_hash(match[2], self.seed),
            identity=match[2],
        )
