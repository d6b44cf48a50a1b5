"""FER2013: seven expressions of 35,887 grey 48x48 faces, as folders of pictures or as one of its csv files.

Source: Goodfellow et al., "Challenges in Representation Learning", ICONIP 2013.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facemllm.data.readers import fer2013_csv
from facemllm.data.readers.base import NOT_ASKED, READERS, Reader, images_in
from facemllm.data.schema import FaceSample
from facemllm.data.vocabularies import EXPRESSIONS, FER2013_EXPRESSIONS

_SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "publictest"),
    "test": ("test", "privatetest"),
}
_ALIASES = {
    "anger": "angry", "disgusted": "disgust", "fearful": "fear", "afraid": "fear", "happiness": "happy",
    "sadness": "sad", "surprised": "surprise",
}  # fmt: skip


@READERS.register("fer2013")
class FER2013(Reader):
    """Official splits ``train``, ``validation`` (PublicTest) and ``test`` (PrivateTest).

    Folders are preferred where both they and a csv file are there. A picture in a csv file is known by the
    byte at which its row begins.
    """

    name = "fer2013"
    licence = "research"
    layout = (
        f"train/, validation/ and/or test/, each with folders {', '.join(EXPRESSIONS)}; or fer2013.csv "
        "(emotion,pixels,Usage) or icml_face_data.csv (emotion, Usage, pixels)"
    )
    splits = ("train", "validation", "test")
    folders = ("fer2013", "fer-2013")
    consent = NOT_ASKED
    vocabularies = (FER2013_EXPRESSIONS,)

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        return _has_folders(folder) or fer2013_csv.find_table(folder) is not None

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of all splits."""
        table = fer2013_csv.find_table(self.root)
        if table is not None and not _has_folders(self.root):
            for number, text, face in fer2013_csv.rows(table):
                yield from self.attempt(f"{table.name}, line {number}", text, self._read_row, face, table)
            return
        for split, folder in _split_folders(self.root):
            for child in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
                expression = _expression(child.name)
                if expression is None or not child.is_dir():
                    self.skip(f"{folder.name}/", child.name, "not a folder named after an expression")
                    continue
                where = f"{folder.name}/{child.name}/"
                for image in images_in(child):
                    yield from self.attempt(where, image.name, self._read_image, image, expression, split)

    def _read_image(self, image: Path, expression: str, split: str) -> FaceSample:
        return self.sample(image, labels={"expression": expression}, split=split)

    def _read_row(self, face: fer2013_csv.Face | None, table: Path) -> FaceSample:
        face = fer2013_csv.checked(face)
        place, side = f"{table.name}#{face.offset}", fer2013_csv.SIDE
        labels = {"expression": fer2013_csv.label(face)}
        split = fer2013_csv.USAGES[face.usage]
        return self.record(place, str(table.with_name(place)), size=(side, side), labels=labels, split=split)


def _has_folders(root: Path) -> bool:
    return any(_expression(child.name) for _, split in _split_folders(root) for child in split.iterdir())


def _split_folders(root: Path) -> list[tuple[str, Path]]:
    children = {child.name.lower(): child for child in root.iterdir() if child.is_dir()}
    return [
        (split, children[name])
        for split, names in _SPLIT_FOLDERS.items()
        for name in names
        if name in children
    ]


def _expression(folder: str) -> str | None:
    name = folder.lower()
    name = _ALIASES.get(name, name)
    return name if name in EXPRESSIONS else None
