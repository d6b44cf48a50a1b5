"""AffectNet: expression, valence and arousal of faces from the web, in both published forms.

The full release has csv files with eleven codes, of which eight are expressions; the release of March 2021
has a folder for each split with one ``.npy`` file for each label of each picture. Codes mean the same in
both.
Source: Mollahosseini, Hasani and Mahoor, "AffectNet", IEEE Transactions on Affective Computing 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facemllm.data.readers.base import NOT_ASKED, READERS, Reader, Unusable, images_in
from facemllm.data.readers.tables import Row, csv_rows
from facemllm.data.schema import FaceSample, Landmarks
from facemllm.data.vocabularies import AFFECTNET_EXPRESSIONS

_COLUMNS = ("subDirectory_filePath", "expression", "valence", "arousal")
_BOX = ("face_x", "face_y", "face_width", "face_height")
_TABLES = {"train": "training.csv", "val": "validation.csv"}
_ANNOTATIONS = ("", "Manually_Annotated_file_lists", "Manual_Annotations", "Manual_Annotated_file_lists")
_IMAGES = ("Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", "images", "")
_POINTS = 68


@READERS.register("affectnet")
class AffectNet(Reader):
    """Official splits ``train`` and ``val``; the test split was never published.

    Pictures without a face (code 10) are skipped. "none" (8) and "uncertain" (9) make the expression one that
    cannot be told. A valence or arousal of -2 means that there is none.
    """

    name = "affectnet"
    licence = "non-commercial research, on signed agreement"
    layout = (
        "training.csv and validation.csv (subDirectory_filePath,face_x,...,expression,valence,arousal) "
        "beside Manually_Annotated_Images/; or train_set/ and val_set/, each with images/1.jpg and "
        "annotations/1_{exp,val,aro,lnd}.npy"
    )
    splits = ("train", "val")
    folders = ("affectnet",)
    consent = NOT_ASKED
    vocabularies = (AFFECTNET_EXPRESSIONS,)

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of one of the layouts are here."""
        return any(_table(folder, split) or _annotations(folder, split).is_dir() for split in self.splits)

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of both splits."""
        for split in self.splits:
            table = _table(self.root, split)
            if table is not None:
                images = self._images(table)
                for where, text, row in csv_rows(table, _COLUMNS):
                    yield from self.attempt(where, text, self._read_row, row, images, split)
            elif _annotations(self.root, split).is_dir():
                for image in images_in(self.root / f"{split}_set" / "images"):
                    where = f"{split}_set/annotations/"
                    yield from self.attempt(where, image.name, self._read_arrays, image, split)

    def _images(self, table: Path) -> list[Path]:
        bases = {self.root: None, table.parent: None}
        return [base / name for base in bases for name in _IMAGES if (base / name).is_dir()]

    def _read_row(self, row: Row | None, images: list[Path], split: str) -> FaceSample:
        if row is None:
            raise Unusable("wrong number of fields")
        name = row["subDirectory_filePath"]
        fields = _fields(row["expression"], row["valence"], row["arousal"])
        try:
            if all(row.get(column) for column in _BOX):
                x, y, width, height = (float(row[column]) for column in _BOX)
                fields["box"] = (x, y, x + width, y + height)
            if row.get("facial_landmarks"):
                fields["landmarks"] = _landmarks([float(x) for x in row["facial_landmarks"].split(";")])
        except ValueError:
            raise Unusable("box or landmarks are not numbers") from None
        image = next((base / name for base in images if (base / name).is_file()), self.root / name)
        return self.sample(image, id=name, split=split, **fields)

    def _read_arrays(self, image: Path, split: str) -> FaceSample:
        import numpy as np

        folder, found = _annotations(self.root, split), {}
        for kind in ("exp", "val", "aro", "lnd"):
            path = folder / f"{image.stem}_{kind}.npy"
            try:
                found[kind] = np.load(path, allow_pickle=False).reshape(-1).tolist()
            except FileNotFoundError:
                found[kind] = []
            except (OSError, ValueError, EOFError):
                raise Unusable(f"unreadable annotation _{kind}.npy") from None
        if not all(found[kind] for kind in ("exp", "val", "aro")):
            raise Unusable("no annotation of expression, valence or arousal")
        fields = _fields(*(str(found[kind][0]) for kind in ("exp", "val", "aro")))
        if found["lnd"]:
            try:
                fields["landmarks"] = _landmarks([float(x) for x in found["lnd"]])
            except ValueError:
                raise Unusable("landmarks are not 68 points") from None
        return self.sample(image, split=split, **fields)


def _fields(code: str, valence: str, arousal: str) -> dict[str, Any]:
    expression = AFFECTNET_EXPRESSIONS.label(code.removesuffix(".0"))
    if expression is None:
        raise Unusable("unknown expression code")
    if expression == "no face":
        raise Unusable("raters saw no face (code 10)")
    try:
        affect = {"valence": float(valence), "arousal": float(arousal)}
    except ValueError:
        raise Unusable("valence or arousal is not a number") from None
    labels: dict[str, Any] = {} if -2 in affect.values() else {"affect": affect}
    if expression in ("none", "uncertain"):
        return {"labels": labels, "cannot_tell": ("expression",)}
    return {"labels": {"expression": expression, **labels}}


def _landmarks(values: list[float]) -> Landmarks:
    if len(values) != 2 * _POINTS:
        raise ValueError
    return Landmarks(scheme="ibug68-1", points=tuple(zip(values[::2], values[1::2], strict=True)))


def _table(folder: Path, split: str) -> Path | None:
    candidates = (folder / place / _TABLES[split] for place in _ANNOTATIONS)
    return next((path for path in candidates if path.is_file()), None)


def _annotations(folder: Path, split: str) -> Path:
    return folder / f"{split}_set" / "annotations"
