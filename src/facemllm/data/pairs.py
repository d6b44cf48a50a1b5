"""Pairs of pictures for verification: is it one person or two?"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import overload

from facemllm.core.errors import DatasetError
from facemllm.data.readers import READERS
from facemllm.data.readers.base import Reader, Unusable
from facemllm.data.readers.lfw import LFW
from facemllm.data.readers.lfw_lists import VIEW_1, read_pair_lines
from facemllm.data.readers.lfw_variants import LFWVariant
from facemllm.data.readers.tables import text_lines
from facemllm.data.schema import FacePair, FaceSample, SkipReport

PAIR_DATASETS = ("lfw", "calfw", "cplfw")
"""The datasets that :func:`read_pairs` knows."""

PAIR_SPLITS = {"lfw": (*VIEW_1, "view2"), "calfw": ("test",), "cplfw": ("test",)}

_log = logging.getLogger("facemllm.data")


class PairDataset(Sequence[FacePair]):
    """The pairs of one split, and what was skipped on the way."""

    def __init__(self, name: str, split: str, pairs: Sequence[FacePair], *, skipped: SkipReport) -> None:
        self.name, self.split, self.pairs, self.skipped = name, split, tuple(pairs), skipped

    def __len__(self) -> int:
        return len(self.pairs)

    @overload
    def __getitem__(self, index: int) -> FacePair: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FacePair]: ...
    def __getitem__(self, index: int | slice) -> FacePair | Sequence[FacePair]:
        return self.pairs[index]

    def __repr__(self) -> str:
        return f"PairDataset({self.name!r}, {self.split!r}, {len(self)} pairs, {self.skipped.total} skipped)"


def read_pairs(name: str, root: str | Path, split: str = "all", strict: bool = False) -> PairDataset:
    """Read the published pairs of a verification dataset.

    Args:
        name: ``lfw``, ``calfw`` or ``cplfw``.
        root: The folder that holds the dataset's own files.
        split: Of LFW ``dev-train`` and ``dev-test`` (View 1, to choose a model with) and ``view2`` (ten
            folds, to report with; no pair of a fold may be used to choose anything for that fold); ``all``
            reads every list that is there. CALFW and CPLFW have ``test`` only.
        strict: Raise on the first unusable pair.

    Raises:
        DatasetError: If lists are missing or malformed, or the split is unknown.

    Example:
        >>> read_pairs("fairface", "nowhere")
        Traceback (most recent call last):
        ...
        facemllm.core.errors.DatasetError: fairface has no pairs
          given:    'fairface'
          expected: one of lfw, calfw, cplfw
          do:       name one of these
    """
    if name not in PAIR_DATASETS:
        raise DatasetError(
            f"{name} has no pairs",
            given=repr(name),
            expected=f"one of {', '.join(PAIR_DATASETS)}",
            do="name one of these",
        )
    if split not in ("all", *PAIR_SPLITS[name]):
        raise DatasetError(
            f"{name} has no pairs of a split {split!r}",
            given=repr(split),
            expected=f"one of {', '.join(('all', *PAIR_SPLITS[name]))}",
            do="ask for one of these",
        )
    reader = READERS.create(name, root=root, strict=strict)
    pairs = list(_variant_pairs(reader) if isinstance(reader, LFWVariant) else _lfw_pairs(reader, split))
    if reader.skipped.total:
        _log.warning("%s: %s", name, reader.skipped)
    if not pairs:
        raise DatasetError(
            f"{name} has no usable pair in split {split!r}",
            given=f"{reader.root}; {reader.skipped}",
            expected="pairsDevTrain.txt, pairsDevTest.txt or pairs.txt beside the folders of people",
            do="put the list there, and check that the pictures are complete",
        )
    return PairDataset(name, split, pairs, skipped=reader.skipped)


def _lfw_pairs(reader: Reader, split: str) -> Iterator[FacePair]:
    assert isinstance(reader, LFW)
    lists = {name: f"pairs{suffix}.txt" for name, suffix in VIEW_1.items()} | {"view2": "pairs.txt"}
    faces = _Faces(reader)
    for name, file in lists.items():
        path = reader.root / file
        if split not in ("all", name) or not path.is_file():
            continue
        for line in read_pair_lines(path):
            try:
                if line.first is None or line.second is None:
                    raise Unusable("expected name, i, j or name, i, name, j")
                first, second = (faces.lfw(*end) for end in (line.first, line.second))
            except Unusable as reason:
                reader.skip(f"{file}, line {line.number}", line.text, str(reason))
                continue
            same = line.first[0] == line.second[0]
            yield FacePair(first=first, second=second, same=same, split=name, fold=line.fold)


def _variant_pairs(reader: LFWVariant) -> Iterator[FacePair]:
    lines = [(number, line, line.rpartition(" ")) for number, line in text_lines(reader.root / reader.pairs)]
    for (number, text, (first, _, tag)), (_, other, (second, _, tag2)) in list(pairwise(lines))[::2]:
        where = f"{reader.pairs}, line {number}"
        try:
            if tag != tag2 or not tag.isdecimal():
                raise Unusable("two consecutive lines do not have one tag")
            fold = int(tag) or None
            ends = [reader.face(reader.images / name.strip(), fold) for name in (first, second)]
            if (ends[0].identity == ends[1].identity) != (fold is not None):
                raise Unusable("tag contradicts the names")
        except Unusable as reason:
            reader.skip(where, f"{text} / {other}", str(reason))
            continue
        yield FacePair(first=ends[0], second=ends[1], same=fold is not None, split="test", fold=fold)
    if len(lines) % 2:
        reader.skip(f"{reader.pairs}, line {lines[-1][0]}", lines[-1][1], "has no partner")


class _Faces:
    """Faces of LFW, made once however many pairs they are in."""

    def __init__(self, reader: LFW) -> None:
        self.reader = reader
        self.known: dict[Path, FaceSample] = {}

    def lfw(self, person: str, number: int) -> FaceSample:
        image = self.reader.root / person / f"{person}_{number:04d}.jpg"
        if image not in self.known:
            self.known[image] = self.reader.sample(image, labels={}, identity=person)
        return self.known[image]
