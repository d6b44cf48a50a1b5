"""DISFA+: intensities of twelve action units in posed and spontaneous trials of nine people.

All nine are also in DISFA, so a model trained on one must not be tested on the other.
Source: Mavadati, Sanger and Mahoor, "Extended DISFA Dataset", CVPR Workshops 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facemllm.data.readers.base import READERS, VOLUNTEERS, Reader, Unusable
from facemllm.data.readers.disfa import PRESENT
from facemllm.data.readers.frames import numbered
from facemllm.data.readers.tables import text_lines
from facemllm.data.schema import FaceSample
from facemllm.data.splits import SPLITS, split_by_rank
from facemllm.data.vocabularies import ACTION_UNITS, DISFA_UNITS


@READERS.register("disfaplus")
class DISFAPlus(Reader):
    """No official split: whole people, ranked by a seeded hash; they have the names of DISFA."""

    name = "disfaplus"
    licence = "non-commercial research, on signed agreement"
    layout = (
        "Labels/SN001/[trial]/AU1.txt (lines 'frame intensity', # comments) beside "
        "Images/SN001/[trial]/001.jpg"
    )
    splits = SPLITS
    folders = ("disfaplus", "disfa+", "disfaplusdataset")
    consent = VOLUNTEERS
    vocabularies = (ACTION_UNITS,)

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        return any((folder / "Labels").glob("SN*/*/AU*.txt"))

    def read(self) -> Iterator[FaceSample]:
        """Yield every labelled frame that there is a picture of."""
        trials = [path for path in sorted((self.root / "Labels").glob("SN*/*")) if path.is_dir()]
        splits = split_by_rank([trial.parent.name for trial in trials], self.seed)
        for trial in trials:
            yield from self._read_trial(trial, splits[trial.parent.name])

    def _read_trial(self, trial: Path, split: str) -> Iterator[FaceSample]:
        place = f"{trial.parent.name}/{trial.name}"
        levels: dict[int, dict[str, int]] = {}
        units = [unit for unit in DISFA_UNITS if (trial / f"{unit}.txt").is_file()]
        for unit in units:
            for number, line in text_lines(trial / f"{unit}.txt"):
                if line.startswith("#"):
                    continue
                fields = line.split()
                frame = fields[0].partition(".")[0] if fields else ""
                if len(fields) != 2 or not frame.isdecimal() or fields[1] not in set("012345"):
                    self.skip(
                        f"{place}/{unit}.txt, line {number}", line, "not a frame and an intensity of 0 to 5"
                    )
                    continue
                levels.setdefault(int(frame), {})[unit] = int(fields[1])
        pictures = numbered(self.root / "Images" / place)
        for shown, found in sorted(levels.items()):
            where = f"Labels/{place}, frame {shown}"
            args = (pictures.get(shown), found, units, place, split)
            yield from self.attempt(where, str(shown), self._read_frame, *args)

    def _read_frame(
        self, image: Path | None, levels: dict[str, int], units: list[str], place: str, split: str
    ) -> FaceSample:
        person, _, trial = place.partition("/")
        if image is None:
            raise Unusable("image not found")
        if set(levels) != set(units):
            raise Unusable("some action units have no label in this frame")
        return self.sample(
            image,
            labels={
                "action_units": {unit: level >= PRESENT for unit, level in levels.items()},
                "au_intensity": levels,
            },
            groups={"person": person, "trial": trial},
            split=split,
            identity=person,
        )
