"""Readers of face datasets, one file a dataset, and the functions that call them by name."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facemllm.core.errors import DatasetError
from facemllm.data.readers import (
    affectnet,
    agedb,
    biwi,
    bp4d,
    celeba,
    disfa,
    disfaplus,
    facecaption,
    fairface,
    fer2013,
    ferplus,
    generic,
    laionface,
    lfw,
    lfw_variants,
    llava,
    mat_pose,
    morph,
    pointing04,
    rafdb,
    utkface,
)
from facemllm.data.readers.base import READERS, Reader, Unusable
from facemllm.data.schema import Dataset, FaceSample, SkipReport

_BUILT_IN = (
    affectnet,
    agedb,
    biwi,
    bp4d,
    celeba,
    disfa,
    disfaplus,
    facecaption,
    fairface,
    fer2013,
    ferplus,
    generic,
    laionface,
    lfw,
    lfw_variants,
    llava,
    mat_pose,
    morph,
    pointing04,
    rafdb,
    utkface,
)  # fmt: skip (importing them registers their readers)

__all__ = ["READERS", "Reader", "SampleStream", "Unusable", "read_dataset", "stream_dataset"]

_ALIASES = {"val": "validation", "validation": "val"}
_log = logging.getLogger("facemllm.data")


class SampleStream:
    """The samples of one split, read anew each time one iterates; nothing is kept.

    Attributes:
        name: Of the reader.
        split: Asked for.
        reader: The reader behind it.
        found: How many samples of each split the last pass has seen.
    """

    def __init__(self, reader: Reader, split: str) -> None:
        self.reader, self.name, self.split = reader, reader.name, split
        self.found: Counter[str] = Counter()

    @property
    def licence(self) -> str:
        """The terms of the dataset."""
        return self.reader.licence

    @property
    def skipped(self) -> SkipReport:
        """What the last pass could not use, of all splits."""
        return self.reader.skipped

    def __iter__(self) -> Iterator[FaceSample]:
        self.reader.skipped = SkipReport()
        self.found = Counter()
        for sample in self.reader.read():
            self.found[str(sample.split)] += 1
            if self.split in ("all", sample.split):
                yield sample


def stream_dataset(
    name: str, root: str | Path, split: str = "all", strict: bool = False, *, seed: int = 0, **options: Any
) -> SampleStream:
    """Read a dataset sample by sample, in memory that does not grow with it.

    Args:
        name: As for :func:`read_dataset`.
        root: As for :func:`read_dataset`.
        split: As for :func:`read_dataset`.
        strict: Raise on the first unusable record; otherwise they are counted in ``skipped``.
        seed: Which of the seeded splits, where there is no official one.
        options: Of the reader.

    Raises:
        RegistryError: If no reader has this name.
        DatasetError: If files are missing or the split is unknown.

    Example:
        >>> stream_dataset("fairface", "nowhere")
        Traceback (most recent call last):
        ...
        facemllm.core.errors.DatasetError: cannot find the dataset fairface in nowhere
          given:    a folder that does not exist
          expected: fairface_label_{train,val}.csv (file,age,gender,race,...) beside train/ and val/
          do:       pass as root (--root; train: --data) the folder with these files; in a recipe: as `path`
    """
    reader = READERS.create(name, root=root, strict=strict, seed=seed, **options)
    if split not in ("all", *reader.splits):
        if _ALIASES.get(split) not in reader.splits:
            raise DatasetError(
                f"{name} has no split {split!r}",
                given=repr(split),
                expected=f"one of {', '.join(('all', *reader.splits))}",
                do="ask for one of these",
            )
        split = _ALIASES[split]
    return SampleStream(reader, split)


def read_dataset(
    name: str, root: str | Path, split: str = "all", strict: bool = False, *, seed: int = 0, **options: Any
) -> Dataset:
    """Read a dataset's labels in its own layout. Pictures are referred to, not opened.

    Args:
        name: One of ``READERS.names()``, such as ``fairface``, ``utkface``, ``celeba``, ``affectnet``,
            ``csv``; readers of other packages register in the entry-point group ``facemllm.readers``.
        root: The folder that holds the dataset's own files, or one whose child is that folder.
        split: ``all`` for every sample found, or a split: the official names where there are any, otherwise
            ``train``, ``val`` and ``test`` of a seeded split. ``val`` and ``validation`` mean the same.
        strict: Raise on the first unusable record; otherwise such records are counted, logged and skipped.
        seed: Which of the seeded splits, where there is no official one.
        options: Of the reader, such as ``view=2`` of ``lfw``.

    Raises:
        RegistryError: If no reader has this name.
        DatasetError: If files are missing, the split is unknown or empty, or (strict) a record is malformed.

    Example:
        >>> read_dataset("fairface", "nowhere")
        Traceback (most recent call last):
        ...
        facemllm.core.errors.DatasetError: cannot find the dataset fairface in nowhere
          given:    a folder that does not exist
          expected: fairface_label_{train,val}.csv (file,age,gender,race,...) beside train/ and val/
          do:       pass as root (--root; train: --data) the folder with these files; in a recipe: as `path`
    """
    stream = stream_dataset(name, root, split, strict, seed=seed, **options)
    samples = list(stream)
    if stream.skipped.total:
        _log.warning("%s: %s", name, stream.skipped)
    if not samples:
        everything = stream.found.total()
        found = ", ".join(sorted(stream.found)) or "no splits"
        ask, check = "ask for another split, or for 'all'", "check that root holds the whole dataset"
        raise DatasetError(
            f"{name} has no usable sample in split {split!r}",
            given=f"{everything} samples ({found}) in {stream.reader.root}; {stream.skipped}",
            expected=stream.reader.layout,
            do=ask if everything else check,
        )
    return Dataset(name, stream.split, samples, skipped=stream.skipped, licence=stream.licence)
