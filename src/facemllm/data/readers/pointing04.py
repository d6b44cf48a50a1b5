"""Pointing'04 (Head Pose Image Database): 15 people looking at markers, pan and tilt in the file names.

The angles are those of the markers, so nominal. Source: Gourier, Hall and Crowley, "Estimating Face
Orientation from Robust Detection of Salient Facial Structures", ICPR workshop Pointing 2004.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from facemllm.data.readers.base import READERS, VOLUNTEERS, Reader, Unusable, images_in
from facemllm.data.schema import FaceSample
from facemllm.data.splits import SPLITS, split_by_rank

_FOLDER = re.compile(r"person(\d{2})", re.IGNORECASE)
_NAME = re.compile(r"person(\d{2})(\d)(\d{2})([+-]\d+)([+-]\d+)\.(?:jpe?g|png)", re.IGNORECASE)


@READERS.register("pointing04")
class Pointing04(Reader):
    """No official split: whole persons, ranked by a seeded hash; at least one for val and two for test."""

    name = "pointing04"
    licence = "any purpose, with citation"
    layout = (
        "folders Person01/, Person02/ ... with person[person 2][series 1][number 2][tilt][pan].jpg and .txt"
    )
    splits = SPLITS
    folders = ("headposeimagedatabase", "pointing04")
    consent = VOLUNTEERS

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        return bool(_persons(folder))

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of all splits."""
        persons = _persons(self.root)
        splits = split_by_rank(persons, self.seed)
        for person, folder in persons.items():
            for image in images_in(folder):
                yield from self.attempt(
                    f"{folder.name}/", image.name, self._read_image, image, person, splits
                )

    def _read_image(self, image: Path, person: str, splits: dict[str, str]) -> FaceSample:
        match = _NAME.fullmatch(image.name)
        if match is None:
            raise Unusable("name is not person[digits][tilt][pan]")
        if match[1] != person:
            raise Unusable("name and folder are of different persons")
        pose = {"pan": float(match[5]), "tilt": float(match[4])}
        if max(map(abs, pose.values())) > 90:
            raise Unusable("angle out of range")
        return self.sample(
            image,
            box=_box(image.with_suffix(".txt")),
            labels={"pose": pose},
            groups={"person": person},
            split=splits[person],
            identity=person,
        )


def _persons(folder: Path) -> dict[str, Path]:
    found = ((_FOLDER.fullmatch(child.name), child) for child in sorted(folder.iterdir()) if child.is_dir())
    return {match[1]: child for match, child in found if match}


def _box(path: Path) -> tuple[float, float, float, float]:
    """Read the last four lines (centre x, centre y, width, height) as corners."""
    try:
        x, y, width, height = (float(line) for line in path.read_text(errors="replace").split()[-4:])
    except (OSError, ValueError):
        raise Unusable("no face box in the text file beside it") from None
    if width <= 0 or height <= 0:
        raise Unusable("face box without extent")
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2
