"""What all dataset readers share: finding the folder, skipping bad records, and the registry."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationError

from facemllm.core.errors import DatasetError
from facemllm.core.registry import Registry
from facemllm.data.schema import FaceSample, SkipReport

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
    licence: ClassVar[str]
    layout: ClassVar[str]
    splits: ClassVar[tuple[str, ...]]
    folders: ClassVar[tuple[str, ...]]
    """Names under which the dataset's folder is commonly unpacked."""

    def __init__(self, root: str | Path, *, strict: bool = False, seed: int = 0) -> None:
        self.strict, self.seed = strict, seed
        self.skipped = SkipReport()
        self.root = self._locate(Path(root))

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
        try:
            sample = make(*args)
        except Unusable as reason:
            self.skip(where, record, str(reason))
        else:
            yield sample

    def sample(self, image: Path, **fields: Any) -> FaceSample:
        """Build a sample whose id is the image's path below the root.

        Raises:
            Unusable: If the image is missing, empty or no picture by its name, or a label has no valid value.
        """
        try:
            size = image.stat().st_size
        except OSError:
            raise Unusable("image not found") from None
        if size == 0 or image.suffix.lower() not in IMAGE_SUFFIXES:
            raise Unusable("image is empty" if size == 0 else "not a picture")
        name = image.relative_to(self.root).as_posix()
        try:
            return FaceSample(id=name, image=str(image), dataset=self.name, licence=self.licence, **fields)
        except ValidationError as error:
            raise Unusable(error.errors()[0]["msg"].removeprefix("Value error, ")) from None

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
            do="pass as root the folder that holds these files",
        )


READERS: Registry[Reader] = Registry("reader")
"""All readers by dataset name."""


def images_in(folder: Path) -> list[Path]:
    """Return the pictures directly in ``folder``, in natural order (2 before 10), hidden files left out."""
    pictures = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    shown = (path for path in pictures if not path.name.startswith("."))
    return sorted(shown, key=lambda path: natural(path.name))


def natural(text: str) -> list[tuple[int, str]]:
    """Return a sorting key under which numbers inside names sort by value.

    Example:
        >>> sorted(["a10", "a2"], key=natural)
        ['a2', 'a10']
    """
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", text)]


def _contents(folder: Path) -> str:
    if not folder.is_dir():
        return "a folder that does not exist" if not folder.exists() else "a file, not a folder"
    names = sorted(path.name for path in folder.iterdir())
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return f"a folder with {shown}" if names else "an empty folder"
