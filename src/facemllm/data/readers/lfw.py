"""Labeled Faces in the Wild: 13,233 photos of 5,749 people; perceived gender from the lists beside them.

Source: Huang et al., "Labeled Faces in the Wild", UMass Amherst 07-49, 2007.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from facemllm.data.readers.base import NOT_ASKED, READERS, Reader, Unusable, is_picture, names_in
from facemllm.data.readers.lfw_lists import read_people
from facemllm.data.schema import FaceSample
from facemllm.data.splits import SPLITS, split_by_hash
from facemllm.data.vocabularies import GENDERS

_NAME = re.compile(r"(.+)_\d{4}\.(?:jpe?g|png)", re.IGNORECASE)


@READERS.register("lfw")
class LFW(Reader):
    """No official split for attributes: 80/10/10 by the hash of the person's name.

    The lists male_names.txt and female_names.txt name pictures; a picture in neither has no gender label.

    Args:
        root: As for every reader.
        strict: As for every reader.
        seed: As for every reader; unused with a view.
        view: 1 for the official ``dev-train`` and ``dev-test`` of peopleDev*.txt, 2 for the folds ``fold1``
            to ``fold10`` of people.txt; people in no list are left out. Pairs are read by
            :func:`facemllm.data.read_pairs`.
    """

    name = "lfw"
    licence = "research"
    layout = (
        "folders First_Last/ with First_Last_0001.jpg ...; male_names.txt and female_names.txt beside them"
    )
    splits: tuple[str, ...] = SPLITS
    folders = ("lfw", "lfw-deepfunneled", "lfw_funneled")
    consent = NOT_ASKED

    def __init__(
        self, root: str | Path, *, strict: bool = False, seed: int = 0, view: int | None = None
    ) -> None:
        super().__init__(root, strict=strict, seed=seed)
        self.people = None if view is None else read_people(self.root, view)
        if self.people is not None:
            self.splits = tuple(dict.fromkeys(split for split, _ in self.people.values()))

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        if any((folder / f"{gender}_names.txt").is_file() for gender in GENDERS):
            return True
        return any(
            (child / f"{child.name}_{number:04d}.jpg").is_file()
            for child in sorted(folder.iterdir())[:100]
            for number in (1, 2, 3)
        )

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of all splits."""
        genders = self._read_genders()
        with os.scandir(self.root) as entries:
            people = sorted(entry.name for entry in entries if entry.is_dir())
        for person in people:
            if self.people is not None and person not in self.people:
                continue
            if self.people is None:
                placed: tuple[str, int | None] = (split_by_hash(person, self.seed), None)
            else:
                placed = self.people[person]
            folder, where = f"{self._below}{person}{os.sep}", f"{person}/"  # text: paths are dear
            for name in names_in(folder, is_picture):
                gender = genders.get(name)
                yield from self.attempt(where, name, self._read_image, folder, person, name, gender, placed)

    def _read_image(
        self, folder: str, person: str, name: str, gender: str | None, placed: tuple[str, int | None]
    ) -> FaceSample:
        match = _NAME.fullmatch(name)
        if match is None or match[1] != person:
            raise Unusable("name is not [person]_[four digits].jpg")
        labels = {"gender": gender} if gender else {}
        split, fold = placed
        return self.sample(
            folder + name, labels=labels, groups=labels, split=split, fold=fold, identity=person
        )

    def _read_genders(self) -> dict[str, str]:
        genders: dict[str, str] = {}
        for gender in GENDERS:
            path = self.root / f"{gender}_names.txt"
            lines = (
                path.read_text(encoding="utf-8-sig", errors="replace").splitlines() if path.is_file() else []
            )
            for number, line in enumerate(lines, start=1):
                name, where = line.strip(), f"{path.name}, line {number}"
                if not name:
                    continue
                if _NAME.fullmatch(name) is None:
                    self.skip(where, name, "not the name of a picture")
                elif genders.setdefault(name, gender) != gender:
                    self.skip(where, name, "picture is in both lists")
                    genders[name] = ""  # neither list is to be believed
        return genders
