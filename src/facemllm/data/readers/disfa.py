"""DISFA: intensities of twelve action units in every frame of films of 27 people.

Source: Mavadati et al., "DISFA: A Spontaneous Facial Action Intensity Database", IEEE Transactions on
Affective Computing 2013; fold lists of the three-fold protocol as in Luo et al., "Learning Multi-dimensional
Edge Feature-based AU Relation Graph", IJCAI 2022.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from facemllm.core.errors import DatasetError
from facemllm.data.readers.base import READERS, VOLUNTEERS, Reader, Unusable
from facemllm.data.readers.frames import numbered
from facemllm.data.readers.tables import text_lines
from facemllm.data.schema import FaceSample
from facemllm.data.vocabularies import ACTION_UNITS, DISFA_UNITS

PRESENT = 2
"""An action unit counts as there from this intensity on, as in the common protocol."""

PROTOCOL_UNITS = ("AU1", "AU2", "AU4", "AU6", "AU9", "AU12", "AU25", "AU26")
"""The eight units of the common protocol; the other four are rare."""

_TESTED = {
    3: "SN002 SN010 SN001 SN026 SN027 SN032 SN030 SN009 SN016",
    2: "SN013 SN018 SN011 SN028 SN012 SN006 SN031 SN021 SN024",
    1: "SN003 SN029 SN023 SN025 SN008 SN005 SN007 SN017 SN004",
}
FOLDS = {subject: fold for fold, subjects in _TESTED.items() for subject in subjects.split()}
"""The fold in which each subject is tested."""

_LABELS = ("ActionUnit_Labels", "labels")
_IMAGES = ("img", "images", "frames", "Images")


@READERS.register("disfa")
class DISFA(Reader):
    """Three folds without common people: ``fold1`` holds the people tested in fold 1, and so on.

    DISFA is published as films, and labels number their frames from 1. Tools that cut films into pictures
    begin at 0 or at 1, so the number of the first picture must be known.

    Args:
        root: As for every reader.
        strict: As for every reader.
        seed: Unused; the folds are fixed.
        first_frame: Number in the name of the first picture of a film: 0 or 1.

    Raises:
        DatasetError: If pictures are found that show ``first_frame`` to be wrong.
    """

    name = "disfa"
    licence = "non-commercial research, on signed agreement"
    layout = (
        "ActionUnit_Labels/SN001/SN001_au1.txt (lines frame,intensity) beside "
        "img/SN001/0.jpg, 1.jpg ..., cut from the films"
    )
    splits = ("fold1", "fold2", "fold3")
    folders = ("disfa",)
    consent = VOLUNTEERS
    vocabularies = (ACTION_UNITS,)

    def __init__(
        self, root: str | Path, *, strict: bool = False, seed: int = 0, first_frame: int = 0
    ) -> None:
        super().__init__(root, strict=strict, seed=seed)
        self.first_frame = first_frame

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        labels = _existing(folder, _LABELS)
        return labels is not None and any(labels.glob("SN*/SN*_au*.txt"))

    def read(self) -> Iterator[FaceSample]:
        """Yield every labelled frame that there is a picture of."""
        labels = _existing(self.root, _LABELS)
        images = _existing(self.root, _IMAGES) or self.root
        for folder in sorted(labels.iterdir() if labels else ()):
            if not folder.is_dir():
                continue
            if folder.name not in FOLDS:
                self.skip(f"{folder.parent.name}/", folder.name, "not one of the 27 people of the dataset")
                continue
            yield from self._read_person(folder, images / folder.name)

    def _read_person(self, folder: Path, images: Path) -> Iterator[FaceSample]:
        pictures = numbered(images)
        files = {unit: folder / f"{folder.name}_{unit.lower()}.txt" for unit in DISFA_UNITS}
        missing = [unit for unit, path in files.items() if not path.is_file()]
        if missing:
            self.skip(f"{folder.name}/", ", ".join(missing), "no label file of some action units")
        lines = [text_lines(path) for unit, path in files.items() if unit not in missing]
        units = [unit for unit in files if unit not in missing]
        count = 0
        for row in zip_longest(*lines):
            count += 1
            where = f"{folder.name}_au*.txt, line {count}"
            text = " ".join("" if line is None else line[1] for line in row)
            yield from self.attempt(where, text, self._read_frame, row, units, pictures, folder.name)
        last = count + self.first_frame - 1
        wrong = [number for number in pictures if number < self.first_frame or number > last]
        if wrong and count:
            raise DatasetError(
                f"pictures of {folder.name} do not fit the labels",
                given=f"{count} labelled frames, pictures from {min(pictures)} to {max(pictures)}",
                expected=f"pictures from {self.first_frame} to {last}, with first_frame={self.first_frame}",
                do="pass first_frame=1 if your tool counts from 1; remove pictures of other films",
            )

    def _read_frame(
        self, row: tuple[Any, ...], units: list[str], pictures: dict[int, Path], person: str
    ) -> FaceSample:
        frames, levels = set(), {}
        for unit, line in zip(units, row, strict=True):
            fields = line[1].split(",") if line else []
            if len(fields) != 2 or not all(field.strip().isdecimal() for field in fields):
                raise Unusable(f"no frame and intensity of {unit}")
            frames.add(int(fields[0]))
            levels[unit] = int(fields[1])
        if len(frames) != 1:
            raise Unusable("files of the action units disagree on the frame")
        number = frames.pop() - 1 + self.first_frame
        if number not in pictures:
            raise Unusable("image not found")
        return self.sample(
            pictures[number],
            labels={
                "action_units": {unit: level >= PRESENT for unit, level in levels.items()},
                "au_intensity": levels,
            },
            groups={"person": person},
            split=f"fold{FOLDS[person]}",
            fold=FOLDS[person],
            identity=person,
        )


def _existing(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)
