"""Readers of face datasets, one file a dataset, and the function that calls them by name."""

from __future__ import annotations

import logging
from pathlib import Path

from facemllm.core.errors import DatasetError
from facemllm.data.readers import celeba, fairface, fer2013, lfw, pointing04, utkface
from facemllm.data.readers.base import READERS, Reader, Unusable
from facemllm.data.schema import Dataset

_BUILT_IN = (celeba, fairface, fer2013, lfw, pointing04, utkface)  # importing them registers their readers

__all__ = ["READERS", "Reader", "Unusable", "read_dataset"]

_ALIASES = {"val": "validation", "validation": "val"}
_log = logging.getLogger("facemllm.data")


def read_dataset(
    name: str, root: str | Path, split: str = "all", strict: bool = False, *, seed: int = 0
) -> Dataset:
    """Read a dataset's labels in its own layout. Pictures are referred to, not opened.

    Args:
        name: ``fairface``, ``utkface``, ``fer2013``, ``pointing04``, ``celeba``, ``lfw``, or one registered
            in the entry-point group ``facemllm.readers``.
        root: The folder that holds the dataset's own files, or one whose child is that folder.
        split: ``all`` for every sample found, or a split: the official names where there are any, otherwise
            ``train``, ``val`` and ``test`` of a seeded split. ``val`` and ``validation`` mean the same.
        strict: Raise on the first unusable record; otherwise such records are counted, logged and skipped.
        seed: Which of the seeded splits, where there is no official one.

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
          do:       pass as root the folder that holds these files
    """
    reader = READERS.create(name, root=root, strict=strict, seed=seed)
    if split not in ("all", *reader.splits):
        if _ALIASES.get(split) not in reader.splits:
            raise DatasetError(
                f"{name} has no split {split!r}",
                given=repr(split),
                expected=f"one of {', '.join(('all', *reader.splits))}",
                do="ask for one of these",
            )
        split = _ALIASES[split]
    everything = list(reader.read())
    samples = [sample for sample in everything if split in ("all", sample.split)]
    if reader.skipped.total:
        _log.warning("%s: %s", name, reader.skipped)
    if not samples:
        found = ", ".join(sorted({str(sample.split) for sample in everything})) or "no splits"
        ask, check = "ask for another split, or for 'all'", "check that root holds the whole dataset"
        raise DatasetError(
            f"{name} has no usable sample in split {split!r}",
            given=f"{len(everything)} samples ({found}) in {reader.root}; {reader.skipped}",
            expected=reader.layout,
            do=ask if everything else check,
        )
    return Dataset(name, split, samples, skipped=reader.skipped, licence=reader.licence)
