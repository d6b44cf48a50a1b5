"""What all dataset readers share: finding the folder, skipping bad records, and the registry."""

from __future__ import annotations

import heapq
import json
import os
import re
import stat
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TextIO

from pydantic import ValidationError

from facemllm.core.errors import DatasetError
from facemllm.core.registry import Registry
from facemllm.data.schema import FaceSample, SkipReport
from facemllm.data.vocabularies import Vocabulary

NOT_ASKED = "pictures collected from the web; the people in them were not asked"
VOLUNTEERS = "volunteers who were recorded for research and agreed to it"

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class Unusable(Exception):
    """A record cannot be used; the message is the reason."""


class Reader(ABC):
    """Reads one dataset in its own on-disk layout.

    A new reader names its terms and layout, says how to recognise its folder, and yields samples; what it
    cannot use it gives to :meth:`skip`, most simply through :meth:`attempt`. Register the class in the
    entry-point group ``facemllm.readers``.

    Args:
        root: The folder that holds the dataset's own files, or one whose child is that folder.
        strict: Raise on the first unusable record instead of skipping it.
        seed: For datasets without official splits, which of the possible splits to make.

    Raises:
        DatasetError: If the folder is not laid out as expected.
    """

    name: ClassVar[str]
    licence: str
    layout: ClassVar[str]
    splits: tuple[str, ...]
    folders: ClassVar[tuple[str, ...]]
    """Names under which the dataset's folder is commonly unpacked."""
    consent: str | None = None
    """What the people in the pictures agreed to, as far as it is known."""
    vocabularies: ClassVar[tuple[Vocabulary, ...]] = ()
    """The vocabularies that the dataset's codes are read with."""

    def __init__(self, root: str | Path, *, strict: bool = False, seed: int = 0) -> None:
        self.strict, self.seed = strict, seed
        self.skipped = SkipReport()
        self._where = ""
        self.root = self._locate(Path(root))
        self._below = os.path.join(self.root, "")  # noqa: PTH118 (text: it begins millions of paths)

    @abstractmethod
    def recognises(self, folder: Path) -> bool:
        """Say whether ``folder`` holds this dataset's own files."""

    @abstractmethod
    def read(self) -> Iterator[FaceSample]:
        """Yield every usable sample of every split, each with its split set."""

    def skip(self, where: str, record: str, reason: str) -> None:
        """Count an unusable record, or raise when strict.

        Raises:
            DatasetError: If the reader is strict.
        """
        if self.strict:
            raise DatasetError(
                f"{self.name}: {reason}",
                given=f"{record!r} at {where}",
                expected=self.layout,
                do="correct or remove the record, or read without strict to skip it",
            )
        self.skipped.add(where, record, reason)

    def attempt(
        self, where: str, record: str, make: Callable[..., FaceSample], *args: Any
    ) -> Iterator[FaceSample]:
        """Yield ``make(*args)``, or skip the record when that raises :class:`Unusable`."""
        self._where = where
        try:
            sample = make(*args)
        except Unusable as reason:
            self.skip(where, record, str(reason))
        else:
            yield sample

    def sample(self, image: Path | str, **fields: Any) -> FaceSample:
        """Build a sample whose id is the image's path below the root.

        Raises:
            Unusable: If the image is missing, empty or no picture by its name, or a label has no valid value.
        """
        path = str(image)  # text from here on: paths are dear, and there are millions of pictures
        try:
            found = os.stat(path)  # noqa: PTH116
        except (OSError, ValueError):  # a name that no file can have
            raise Unusable("image not found") from None
        if not stat.S_ISREG(found.st_mode) or not path.lower().endswith(IMAGE_SUFFIXES):
            raise Unusable("not a picture")
        if found.st_size == 0:
            raise Unusable("image is empty")
        name = fields.pop("id", None) or self._below_root(path)
        return self.record(name, path, **fields)

    def _below_root(self, path: str) -> str:
        """Return a path below the root, with forward slashes on every system."""
        if not path.startswith(self._below):
            return Path(path).relative_to(self.root).as_posix()
        return path[len(self._below) :].replace(os.sep, "/")

    def record(self, name: str, image: str, **fields: Any) -> FaceSample:
        """Build a sample of any reference to a picture, with the dataset's terms and where it was found.

        Raises:
            Unusable: If a field has no valid value.
        """
        given = {"licence": self.licence, "consent": self.consent, **fields}
        given["provenance"] = {"record": self._where, **fields.get("provenance", {})}
        try:
            return FaceSample(id=name, image=image, dataset=self.name, **given)
        except ValidationError as error:
            # Without what was given, so that records with one fault are counted as one reason.
            reason = error.errors()[0]["msg"].removeprefix("Value error, ").partition(", got ")[0]
            raise Unusable(reason) from None

    def _locate(self, root: Path) -> Path:
        candidates = [root]
        if root.is_dir():
            wanted = {folder.lower() for folder in self.folders}
            candidates += sorted(child for child in root.iterdir() if child.name.lower() in wanted)
        for folder in candidates:
            if folder.is_dir() and self.recognises(folder):
                return folder
        raise DatasetError(
            f"cannot find the dataset {self.name} in {root}",
            given=_contents(root),
            expected=self.layout,
            do="pass as root (--root; train: --data) the folder with these files; in a recipe: as `path`",
        )


READERS: Registry[Reader] = Registry("reader")
"""All readers by dataset name."""


def images_in(folder: Path) -> Iterator[Path]:
    """Yield the pictures directly in ``folder``, in natural order (2 before 10), hidden files left out."""
    return (folder / name for name in names_in(folder, is_picture))


def is_picture(name: str) -> bool:
    """Say whether a file is a picture by its name, and not hidden."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def names_in(folder: Path | str, wanted: Callable[[str], bool], *, most: int = 10_000) -> Iterator[str]:
    """Yield the names in ``folder`` that are ``wanted``, in natural order, holding at most ``most`` of them.

    Of a larger folder, sorted runs are kept in a temporary file and merged, so memory does not grow with it.
    """
    with os.scandir(folder) as entries:
        names = (entry.name for entry in entries if wanted(entry.name))
        run = list(islice(names, most))
        if len(run) > 1:  # a folder a person mostly holds one picture
            run.sort(key=natural)
        yield from run if len(run) < most else _merged(names, run, most)


def _merged(names: Iterator[str], run: list[str], most: int) -> Iterator[str]:
    """Yield the names of a full run and all others in order, by way of a temporary file."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as spill:
        starts: list[int] = []
        while len(run) == most:
            starts.append(spill.tell())
            spill.writelines(f"{json.dumps(name)}\n" for name in run)
            run = sorted(islice(names, most), key=natural)
        ends = [*starts[1:], spill.tell()]
        runs = (
            [_spilled(spill, start, end) for start, end in zip(starts, ends, strict=True)] if starts else []
        )
        yield from heapq.merge(*runs, run, key=natural)


def _spilled(file: TextIO, position: int, end: int) -> Iterator[str]:
    while position < end:
        file.seek(position)
        lines: list[str] = []
        while len(lines) < 1000 and file.tell() < end:
            lines.append(json.loads(file.readline()))
        position = file.tell()
        yield from lines


def natural(text: str) -> list[tuple[int, str]]:
    """Return a sorting key under which numbers inside names sort by value.

    Example:
        >>> sorted(["a10", "a2"], key=natural)
        ['a2', 'a10']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", text)]


def _contents(folder: Path) -> str:
    if not folder.is_dir():
        return "a folder that does not exist" if not folder.exists() else "a file, not a folder"
    names = sorted(path.name for path in folder.iterdir())
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return f"a folder with {shown}" if names else "an empty folder"
