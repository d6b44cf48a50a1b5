"""Copies of pictures within a set and between sets: exact, perceptual, and by a caller's embedding.

Perceptual copies are cropped, resized, recompressed or mirrored, or all of these. Candidates come from a k-d
tree over fingerprints (:mod:`facemllm.data.fingerprints`); each candidate is then laid over its original and
kept only if the two agree in detail. Photos of one person in one pose in one place, taken moments apart, may
agree as well as a copy does, and are worth being told of as much.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from facemllm.core.errors import DatasetError, MissingExtraError
from facemllm.data.fingerprints import WINDOWS, Array, Prints, descriptors, overlap

Kind = Literal["exact", "perceptual", "embedding"]

THRESHOLD = 0.95
"""Correlation from which two pictures count as copies."""

EMBEDDING_THRESHOLD = 0.92
"""Cosine of embeddings from which two pictures count as copies; what it is worth depends on the encoder."""

ENOUGH = 64
"""Pictures below which the mean of their embeddings says too little to be taken away."""

_NEAREST = 12  # windows looked at for each picture
_REACH = 0.6  # distance beyond which a window is no candidate
_ALIKE = 0.75  # correlation of coarse views below which a candidate is not looked at closely
_AXES = 20  # of the fingerprints' principal axes, kept in the tree


@dataclass(frozen=True)
class Leak:
    """One picture that occurs twice.

    Attributes:
        a: Name in the first set.
        b: Name in the second, which is the first itself when one set is searched.
        kind: How it was found.
        score: 1 for exact copies, else the correlation or the cosine of the embeddings.
        mirrored: Whether one is the mirror image of the other.
    """

    a: str
    b: str
    kind: Kind
    score: float
    mirrored: bool = False


@dataclass(frozen=True)
class LeakReport:
    """All copies found, and what could not be looked at.

    Attributes:
        pictures_a: Number of pictures of the first set.
        pictures_b: Number of the second, or None when one set was searched.
        leaks: Sorted by score.
        unreadable: Why pictures were left out.
        flat: Names of pictures without content, which only exact copies are found of.
        threshold: The correlation asked for.
    """

    pictures_a: int
    pictures_b: int | None
    leaks: tuple[Leak, ...]
    unreadable: dict[str, str] = field(default_factory=dict)
    flat: tuple[str, ...] = ()
    threshold: float = THRESHOLD

    @property
    def counts(self) -> dict[str, int]:
        """How many leaks of each kind there are."""
        return dict(Counter(leak.kind for leak in self.leaks))

    def groups(self) -> list[list[str]]:
        """Return the pictures that belong together, largest groups first."""
        parent: dict[str, str] = {}

        def root(name: str) -> str:
            while parent.setdefault(name, name) != name:
                parent[name] = parent[parent[name]]
                name = parent[name]
            return name

        for leak in self.leaks:
            parent[root(f"a/{leak.a}")] = root(f"{'a' if self.pictures_b is None else 'b'}/{leak.b}")
        members = defaultdict(list)
        for name in parent:
            members[root(name)].append(name)
        return sorted((sorted(group) for group in members.values()), key=lambda group: (-len(group), group))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self) | {"leaks": [asdict(leak) for leak in self.leaks], "counts": self.counts}


def find_leaks(
    a: Prints,
    b: Prints | None = None,
    *,
    threshold: float = THRESHOLD,
    embedding_threshold: float = EMBEDDING_THRESHOLD,
) -> LeakReport:
    """Find the pictures of ``a`` that are also in ``b``, or twice in ``a``.

    Args:
        a: Fingerprints of one set.
        b: Of another; None to search within ``a``.
        threshold: Least correlation of perceptual copies, from 0 to 1.
        embedding_threshold: Least cosine of embeddings, where both sets have them, with the mean of all
            pictures taken away.

    Raises:
        DatasetError: If a set is empty, a threshold is not between 0 and 1, or embeddings are to be compared
            of fewer than :data:`ENOUGH` pictures.

    Example:
        >>> from facemllm.data.fingerprints import fingerprint
        >>> find_leaks(fingerprint([]))
        Traceback (most recent call last):
        ...
        facemllm.core.errors.DatasetError: nothing to look for copies in
          given:    0 pictures
          expected: at least one readable picture in each set
          do:       check the folders
    """
    if not len(a) or (b is not None and not len(b)):
        raise DatasetError(
            "nothing to look for copies in",
            given=f"{len(a)} pictures" if b is None else f"{len(a)} and {len(b)} pictures",
            expected="at least one readable picture in each set",
            do="check the folders",
        )
    if not 0 < threshold <= 1 or not 0 < embedding_threshold <= 1:
        raise DatasetError(
            "threshold out of range",
            given=f"{threshold}, {embedding_threshold}",
            expected="more than 0 and at most 1",
            do="choose another",
        )
    other = a if b is None else b
    found: dict[tuple[int, int], Leak] = {}
    for i, j in _exact(a, other, b is None):
        found[i, j] = Leak(a.names[i], other.names[j], "exact", 1.0)
    for (i, j), (score, mirrored) in _perceptual(a, other, b is None, threshold).items():
        found.setdefault((i, j), Leak(a.names[i], other.names[j], "perceptual", round(score, 4), mirrored))
    for i, j, score in _embedded(a, other, b is None, embedding_threshold):
        found.setdefault((i, j), Leak(a.names[i], other.names[j], "embedding", round(score, 4)))
    unreadable = a.unreadable | ({} if b is None else b.unreadable)
    flat = [name for prints in {id(a): a, id(other): other}.values()
            for name, empty in zip(prints.names, prints.flat, strict=True) if empty]  # fmt: skip
    return LeakReport(
        pictures_a=len(a),
        pictures_b=None if b is None else len(b),
        leaks=tuple(sorted(found.values(), key=lambda leak: (-leak.score, leak.a, leak.b))),
        unreadable=unreadable,
        flat=tuple(flat),
        threshold=threshold,
    )


def _exact(a: Prints, b: Prints, within: bool) -> Iterable[tuple[int, int]]:
    places = defaultdict(list)
    for index, digest in enumerate(a.digests):
        places[digest].append(index)
    for j, digest in enumerate(b.digests):
        for i in places.get(digest, ()):
            if not within or i < j:
                yield i, j


def _perceptual(
    a: Prints, b: Prints, within: bool, threshold: float
) -> dict[tuple[int, int], tuple[float, bool]]:
    """Return the pairs above the threshold; either may be a crop of the other, and mirrored."""
    best: dict[tuple[int, int], tuple[float, bool]] = {}
    # With one set, the two ways round are one search.
    for wholes, parts, swapped in ((a, b, False),) if within else ((a, b, False), (b, a, True)):
        index = _Index(wholes)
        for mirrored in (False, True):
            thumbnails = parts.thumbnails[:, :, ::-1] if mirrored else parts.thumbnails
            for whole, part, score in index.search(thumbnails, parts.flat, skip_same=within):
                if score < threshold:
                    continue
                pair = (part, whole) if swapped else (whole, part)
                pair = (min(pair), max(pair)) if within else pair
                if score > best.get(pair, (0.0, False))[0]:
                    best[pair] = (score, mirrored)
    return best


class _Index:
    """A k-d tree over the windows of a set of pictures."""

    def __init__(self, prints: Prints) -> None:
        try:
            from scipy.spatial import cKDTree
        except ImportError:
            raise MissingExtraError("scipy", extra="data", needed_for="finding copies") from None
        self.prints = prints
        self.kept = np.flatnonzero(~prints.flat)
        views = descriptors(prints.thumbnails[self.kept])
        self.flat = views.reshape(-1, views.shape[-1])
        self.mean = self.flat.mean(axis=0) if len(self.flat) else 0
        # The principal axes of the set itself; a part of it is enough to find them.
        part = self.flat[:: max(1, len(self.flat) // 20_000)] - self.mean
        self.axes = np.linalg.svd(part, full_matrices=False)[2][:_AXES] if len(part) else np.zeros((1, 63))
        self.tree = cKDTree((self.flat - self.mean) @ self.axes.T) if len(self.flat) else None

    def search(self, thumbnails: Array, flat: Array, *, skip_same: bool) -> Iterable[tuple[int, int, float]]:
        """Yield whole, part and correlation of every pair that may be a copy."""
        queries = np.flatnonzero(~flat)
        if self.tree is None or not len(queries):
            return
        for start in range(0, len(queries), 4096):
            rows = queries[start : start + 4096]
            wanted = descriptors(np.ascontiguousarray(thumbnails[rows]), WINDOWS[:1])[:, 0]
            count = min(_NEAREST + (len(WINDOWS) if skip_same else 0), len(self.flat))
            distances, hits = self.tree.query(
                (wanted - self.mean) @ self.axes.T, k=count, distance_upper_bound=_REACH, workers=-1
            )
            distances, hits = distances.reshape(len(rows), -1), hits.reshape(len(rows), -1)
            query, place = np.nonzero(np.isfinite(distances))
            hit = hits[query, place]
            # Unit vectors: their product is the correlation of the coarse views.
            alike = np.einsum("nd,nd->n", wanted[query], self.flat[hit])
            whole = self.kept[hit // len(WINDOWS)]
            good = alike >= _ALIKE
            if skip_same:
                good &= whole != rows[query]
            query, hit, whole = query[good], hit[good], whole[good]
            # Hits come nearest first, so the first of a pair is its best window.
            _, first = np.unique(np.stack([query, whole], axis=1), axis=0, return_index=True)
            query, hit, whole = query[first], hit[first], whole[first]
            part = np.ascontiguousarray(thumbnails[rows[query]])
            scores = overlap(self.prints.thumbnails[whole], part, WINDOWS[hit % len(WINDOWS)])
            yield from zip(whole.tolist(), rows[query].tolist(), scores.tolist(), strict=True)


def _embedded(a: Prints, b: Prints, within: bool, threshold: float) -> Iterable[tuple[int, int, float]]:
    if a.vectors is None or b.vectors is None:
        return
    everything = a.vectors if within else np.concatenate([a.vectors, b.vectors])
    if len(everything) < ENOUGH:
        raise DatasetError(
            "too few pictures to compare by embeddings",
            given=f"{len(everything)} pictures",
            expected=f"at least {ENOUGH}, from which is seen what the embeddings of all pictures share",
            do="leave embeddings out: copies are found by their pixels as well",
        )
    # Of most encoders any two pictures have a cosine near 1; what tells them apart is what remains when the
    # mean of all is taken away.
    mean = everything.mean(axis=0)
    left, right = (_unit(x - mean) for x in (a.vectors, b.vectors))
    for start in range(0, len(left), 1024):
        cosines = left[start : start + 1024] @ right.T
        for i, j in zip(*np.nonzero(cosines >= threshold), strict=True):
            if not within or start + i < j:
                yield start + int(i), int(j), float(cosines[i, j])


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
