"""UTKFace: age in years, perceived gender and race of 23,708 faces, written in the file names.

Source: Zhang, Song and Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder", CVPR 2017.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from facemllm.data.readers.base import NOT_ASKED, READERS, Reader, Unusable, images_in
from facemllm.data.schema import FaceSample
from facemllm.data.splits import SPLITS, split_by_hash
from facemllm.data.vocabularies import MAX_AGE, UTKFACE_GENDERS, UTKFACE_RACES, age_bin

_NAME = re.compile(r"(\d+)_(\d+)_(\d+)_\d+\.(?:jpe?g|png)(?:\.chip\.jpg)?", re.IGNORECASE)
_REMEMBERED = 1000


@READERS.register("utkface")
class UTKFace(Reader):
    """No official split: 80/10/10 by the hash of the picture's bytes, so copies stay together.

    An aligned copy ``x.jpg.chip.jpg`` lying beside ``x.jpg`` goes to the split of ``x.jpg``.
    """

    name = "utkface"
    licence = "non-commercial research"
    layout = "images named [age]_[gender 0-1]_[race 0-4]_[date].jpg or ....jpg.chip.jpg in one folder"
    splits = SPLITS
    folders = ("utkface", "crop_part1")
    consent = NOT_ASKED
    vocabularies = (UTKFACE_GENDERS, UTKFACE_RACES)

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        return any(_NAME.fullmatch(path.name) for path in folder.iterdir())

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of all splits."""
        splits: dict[str, str] = {}
        # Natural order puts x.jpg right before x.jpg.chip.jpg, so the photo itself decides for both, and only
        # the last few need to be remembered.
        for image in images_in(self.root):
            photo = image.name.lower().removesuffix(".chip.jpg")
            if len(splits) > _REMEMBERED:
                splits = dict(list(splits.items())[-_REMEMBERED // 2 :])
            yield from self.attempt(self.root.name, image.name, self._read_image, image, photo, splits)

    def _read_image(self, image: Path, photo: str, splits: dict[str, str]) -> FaceSample:
        match = _NAME.fullmatch(image.name)
        if match is None:
            raise Unusable("name is not [age]_[gender]_[race]_[date]")
        age, gender, race = int(match[1]), UTKFACE_GENDERS.label(match[2]), UTKFACE_RACES.label(match[3])
        if age > MAX_AGE:
            raise Unusable("age out of range")
        if gender is None:
            raise Unusable("unknown gender code")
        if race is None:
            raise Unusable("unknown race code")
        groups = {"gender": gender, "ethnicity": race}
        labels = {"age": float(age), **groups}
        if photo not in splits:
            splits[photo] = split_by_hash(_digest(image), self.seed)
        groups = {"age_bin": age_bin(age), **groups}
        return self.sample(image, labels=labels, groups=groups, split=splits[photo])


def _digest(image: Path) -> str:
    try:
        if image.is_file():  # reading a pipe would never end
            return hashlib.sha1(image.read_bytes()).hexdigest()
    except OSError:
        pass
    raise Unusable("image cannot be read")
