"""Labels of a user's own: a csv file, or folders named after labels.

The csv file has a row for each picture and a header. Columns with these names mean what they say: ``image``
(or ``file``, ``path``), ``age``, ``age_bin``, ``expression``, ``gender``, ``ethnicity``, ``pan``, ``tilt``,
``roll``, ``caption``, ``split``, ``identity``, ``licence``, and ``x1, y1, x2, y2`` for the face box. A
column ``attributes/NAME`` or ``AU12`` holds 1 or 0 (yes or no), and nothing where it cannot be told.
Other columns are ignored with a warning. The file is in UTF-8, with commas between columns.
``facemllm.yaml`` beside it may name the dataset, its licence and consent, and rename columns and labels.
"""

from __future__ import annotations

import csv
import difflib
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from facemllm.core.config import StrictModel, load_yaml, validate
from facemllm.core.errors import DatasetError
from facemllm.data.labels import CLASSES
from facemllm.data.readers.base import READERS, Reader, Unusable, images_in
from facemllm.data.readers.tables import Row, csv_rows
from facemllm.data.schema import FaceSample
from facemllm.data.splits import SPLITS, split_by_hash

DESCRIPTION = "facemllm.yaml"
_IMAGE = ("image", "file", "path", "filename", "image_path")
_BOX = ("x1", "y1", "x2", "y2")
_ANGLES = ("pan", "tilt", "roll")
_UNIT = re.compile(r"AU\d{1,2}")
_TRUE, _FALSE = ("1", "yes", "true"), ("0", "-1", "no", "false")
_COLUMNS = (*_IMAGE, *_BOX, *_ANGLES, *CLASSES, "age", "caption", "split", "identity", "licence")
_NAMED = ("action_units", "attributes", "parts")
_log = logging.getLogger("facemllm.data")


class Description(StrictModel):
    """What ``facemllm.yaml`` may say about a dataset of a user's own.

    Attributes:
        licence: Its terms.
        consent: What the people in it agreed to.
        vocabulary: Name and version of its labels, such as ``clinic-pain-2``.
        columns: From a column's name in the file to one that is known.
        labels: For each task, from a label in the file to the canonical one.
        task: Which task the folders are labels of.
    """

    licence: str = "not stated"
    consent: str | None = None
    vocabulary: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, dict[str, str]] = Field(default_factory=dict)
    task: str | None = None


class Own(Reader):
    """What csv files and folders share: the description, and splits where the data has none."""

    licence = "not stated"
    splits = SPLITS
    folders = ()

    def __init__(self, root: str | Path, *, strict: bool = False, seed: int = 0) -> None:
        super().__init__(root, strict=strict, seed=seed)
        path = self.root / DESCRIPTION
        values = load_yaml(path) if path.is_file() else {}
        self.description = validate(Description, values, source=DESCRIPTION)
        self.licence, self.consent = self.description.licence, self.description.consent

    def canonical(self, task: str, label: str) -> str:
        """Return the canonical label, which a description may have renamed."""
        renamed = self.description.labels.get(task, {})
        return renamed.get(label, label.lower() if label.lower() in CLASSES.get(task, ()) else label)

    def provenance(self) -> dict[str, str]:
        """Return the name and version of the labels, if the description has one."""
        return {"vocabulary": self.description.vocabulary} if self.description.vocabulary else {}


@READERS.register("csv")
class OwnTable(Own):
    """One csv file. Without a column ``split``, 80/10/10 by identity or, lacking it, by name."""

    name = "csv"
    layout = "one .csv file with a header (image, age, expression, ...: see the guide) beside the images"

    def __init__(self, root: str | Path, *, strict: bool = False, seed: int = 0) -> None:
        super().__init__(root, strict=strict, seed=seed)
        self._path, names = _table(self.root, self.description.columns)
        _check_columns(self._path.name, names, strict=strict)

    def recognises(self, folder: Path) -> bool:
        """Say whether there is a csv file here; which one, and whether it can be read, is seen later."""
        return any(folder.glob("*.csv"))

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of all rows."""
        for where, text, row in csv_rows(self._path, ()):
            yield from self.attempt(where, text, self._read_row, row)

    def _read_row(self, row: Row | None) -> FaceSample:
        if row is None:
            raise Unusable("wrong number of fields")
        row = {self.description.columns.get(name, name): value for name, value in row.items()}
        image = next((row[name] for name in _IMAGE if row.get(name)), "")
        path = self.root / image
        if not image or not path.resolve().is_relative_to(self.root.resolve()):
            raise Unusable("no picture below the root")
        labels, untold = _labels(row, self.canonical)
        identity = row.get("identity") or None
        split = row.get("split", "").lower() or split_by_hash(identity or image, self.seed)
        if split not in self.splits:
            raise Unusable(f"split is none of {', '.join(self.splits)}")
        fields: dict[str, Any] = {"licence": row["licence"]} if row.get("licence") else {}
        corners = sum(bool(row.get(corner)) for corner in _BOX)
        if 0 < corners < len(_BOX):
            raise Unusable("box is incomplete: it needs x1, y1, x2 and y2, or none of them")
        if corners:
            fields["box"] = tuple(_number(row[corner], corner) for corner in _BOX)
        groups = {task: labels[task] for task in CLASSES if task in labels}
        return self.sample(
            path, labels=labels, cannot_tell=untold, groups=groups, split=split, identity=identity,
            provenance=self.provenance(), **fields,
        )  # fmt: skip


@READERS.register("folder")
class OwnFolders(Own):
    """Folders named after labels, below ``train/``, ``val/`` and ``test/`` or not.

    Which task they are labels of is told by the description, or by their names where all are labels of one
    task.
    """

    name = "folder"
    layout = (
        "[train|val|test]/LABEL/picture.jpg or LABEL/picture.jpg, and facemllm.yaml with 'task:' if LABEL "
        "does not tell"
    )

    def recognises(self, folder: Path) -> bool:
        """Say whether pictures lie in folders here."""
        return any(next(images_in(place), None) for _, _, place in _label_folders(folder))

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of all folders."""
        places = _label_folders(self.root)
        task = self.description.task or self._task({label for _, label, _ in places})
        for split, label, folder in places:
            where = folder.relative_to(self.root).as_posix() + "/"
            for image in images_in(folder):
                yield from self.attempt(where, image.name, self._read_image, image, task, label, split)

    def _task(self, labels: set[str]) -> str:
        for task, known in CLASSES.items():
            if {self.canonical(task, label) for label in labels} <= set(known):
                return task
        raise DatasetError(
            "cannot tell which task the folders are labels of",
            given=", ".join(sorted(labels)[:8]),
            expected=f"labels of one of {', '.join(CLASSES)}, or attributes",
            do=f"write {DESCRIPTION} with 'task: expression' (or 'attributes'), and 'labels:' to rename them",
        )

    def _read_image(self, image: Path, task: str, label: str, split: str | None) -> FaceSample:
        value: Any = self.canonical(task, label)
        if task == "attributes":
            value = {value: True}
        name = image.relative_to(self.root).as_posix()
        return self.sample(
            image, labels={task: value}, split=split or split_by_hash(name, self.seed),
            provenance=self.provenance(),
        )  # fmt: skip


def _labels(row: Row, canonical: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    labels: dict[str, Any] = {task: canonical(task, row[task]) for task in CLASSES if row.get(task)}
    if row.get("age"):
        labels["age"] = _number(row["age"], "age")
    if row.get("caption"):
        labels["caption"] = row["caption"]
    angles = {axis: _number(row[axis], axis) for axis in _ANGLES if row.get(axis)}
    if angles:
        labels["pose"] = angles
    untold = []
    for column, value in row.items():
        task, _, name = column.rpartition("/")
        if _UNIT.fullmatch(column):
            task = "action_units"
        if task not in _NAMED:
            continue
        if not value:
            untold.append(f"{task}/{name}")
        elif value.lower() in (*_TRUE, *_FALSE):
            labels.setdefault(task, {})[name] = value.lower() in _TRUE
        else:
            raise Unusable(f"{column} is neither yes nor no")
    return labels, tuple(untold)


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Unusable(f"{name} is not a number") from None


def _table(folder: Path, renamed: dict[str, str]) -> tuple[Path, list[str]]:
    """Return the one csv file with a column of pictures in a folder, and its columns under known names.

    Raises:
        DatasetError: If there is none or more than one, or it is not in UTF-8.
    """
    headers = {path: _header(path, renamed) for path in sorted(folder.glob("*.csv"))}
    found = [path for path, names in headers.items() if set(names) & set(_IMAGE)]
    if len(found) == 1:
        _check_encoding(found[0])
        return found[0], headers[found[0]]
    if found:
        raise DatasetError(
            "several csv files have a column of pictures",
            given=", ".join(path.name for path in found),
            expected="one such file in the folder",
            do="join them, or move each into a folder of its own with its facemllm.yaml",
        )
    if not any(path.stat().st_size for path in headers):
        raise DatasetError(
            f"{next(iter(headers)).name} is empty",
            given="a csv file without a line",
            expected="a header such as image,age,expression, then a line for each picture",
            do="write the labels into it",
        )
    for path in headers:
        _check_encoding(path)
    names = [name for names in headers.values() for name in names]
    near = [match for name in names for match in _nearest(name, _IMAGE)]
    divided = len(headers) == len(names) and any(mark in name for name in names for mark in ";\t|")
    raise DatasetError(
        f"{' and '.join(path.name for path in headers)} has no column of pictures",
        given=f"columns {', '.join(names)}"[:300],
        expected=f"a column {_IMAGE[0]} (or {', '.join(_IMAGE[1:])})",
        do="put commas between the columns" if divided else
        f"rename the column{f' to {near[0]}' if near else ''}, or name it under columns: in {DESCRIPTION}",
    )  # fmt: skip


def _header(path: Path, renamed: dict[str, str]) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            names = next(csv.reader(file, skipinitialspace=True), [])
        except csv.Error:
            names = []
    return [renamed.get(name.strip(), name.strip()) for name in names]


def _check_encoding(path: Path) -> None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                raise DatasetError(
                    f"{path.name} is not in UTF-8",
                    given=f"line {number}: {line[:80]!r}",
                    expected="text in the encoding UTF-8",
                    do=f"save it as UTF-8, for example: iconv -f latin1 -t utf-8 {path.name} > new.csv",
                ) from None


def _check_columns(file: str, names: Sequence[str], *, strict: bool) -> None:
    """Refuse columns that occur twice; warn of unknown ones, or refuse those close to a known name."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DatasetError(
            f"{file} has a column twice",
            given=f"{', '.join(twice)} (after renaming)",
            expected="each name once",
            do="remove or rename one of the two",
        )
    unknown = [name for name in names if name and not _known(name)]
    near = {name: found[0] for name in unknown if (found := _nearest(name, _COLUMNS))}
    shown = ", ".join(f"{name} (did you mean {near[name]}?)" if name in near else name for name in unknown)
    if strict and near:
        raise DatasetError(
            f"{file} has columns of unknown names",
            given=shown,
            expected=f"{', '.join(_COLUMNS)}, attributes/NAME, parts/NAME, AU12 and the like",
            do=f"correct the name, or name the column under columns: in {DESCRIPTION}",
        )
    if unknown:
        _log.warning("%s: columns that mean nothing here are ignored: %s", file, shown)


def _known(name: str) -> bool:
    return name in _COLUMNS or name.rpartition("/")[0] in _NAMED or _UNIT.fullmatch(name) is not None


def _nearest(name: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.75)


def _label_folders(root: Path) -> list[tuple[str | None, str, Path]]:
    """Return split, label and folder of every folder that may hold pictures of one label."""
    children = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    splits = [child for child in children if child.name.lower() in SPLITS]
    if splits:
        return [
            (split.name.lower(), child.name, child)
            for split in splits
            for child in sorted(path for path in split.iterdir() if path.is_dir())
        ]
    return [(None, child.name, child) for child in children]
