"""CALFW and CPLFW: people of LFW across ages and across poses, each with 6,000 pairs.

``pairs_CALFW.txt`` has 12,000 lines ``name tag``; lines stand in consecutive pairs, and the tag of both is 0
for different people and above 0 for one person, in which case it is the fold.
Sources: Zheng, Deng and Hu, "Cross-Age LFW", arXiv 1708.08197; Zheng and Deng, "Cross-Pose LFW", 2018.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from facemllm.data.readers.base import NOT_ASKED, READERS, Reader, Unusable, images_in
from facemllm.data.schema import FaceSample

_NAME = re.compile(r"(.+)_(\d{1,4})\.(?:jpe?g|png)", re.IGNORECASE)
_IMAGES = ("aligned images", "images", "images&landmarks/images&landmarks/images", "images&landmarks/images")


class LFWVariant(Reader):
    """Pictures with the names of the people in them, all for testing.

    Pairs are read by :func:`facemllm.data.read_pairs`.
    """

    licence = "research"
    splits = ("test",)
    consent = NOT_ASKED
    pairs: str

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        return (folder / self.pairs).is_file() and any((folder / name).is_dir() for name in _IMAGES)

    @property
    def images(self) -> Path:
        """The folder of the pictures."""
        return next(self.root / name for name in _IMAGES if (self.root / name).is_dir())

    def read(self) -> Iterator[FaceSample]:
        """Yield every picture."""
        for image in images_in(self.images):
            yield from self.attempt(f"{self.images.name}/", image.name, self.face, image)

    def face(self, image: Path, fold: int | None = None) -> FaceSample:
        """Return the sample of one picture.

        Raises:
            Unusable: If the name is not that of a person and a number, or the picture is not there.
        """
        match = _NAME.fullmatch(image.name)
        if match is None:
            raise Unusable("name is not [person]_[number].jpg")
        return self.sample(image, labels={}, split="test", fold=fold, identity=match[1])


@READERS.register("calfw")
class CALFW(LFWVariant):
    """Cross-Age LFW: 12,174 pictures of 4,025 people."""

    name = "calfw"
    layout = "pairs_CALFW.txt (lines 'name.jpg tag', consecutive pairs) beside 'aligned images/' or images/"
    folders = ("calfw",)
    pairs = "pairs_CALFW.txt"


@READERS.register("cplfw")
class CPLFW(LFWVariant):
    """Cross-Pose LFW: 11,652 pictures of 3,930 people."""

    name = "cplfw"
    layout = "pairs_CPLFW.txt (lines 'name.jpg tag', consecutive pairs) beside 'aligned images/' or images/"
    folders = ("cplfw",)
    pairs = "pairs_CPLFW.txt"
