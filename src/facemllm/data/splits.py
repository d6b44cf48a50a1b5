"""Seeded splits for datasets that have none of their own.

Both ways depend only on the seed and on the keys (an identity, a content hash), never on file order, so two
machines with the same files agree. Samples with the same key are never separated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

SPLITS = ("train", "val", "test")
VAL = TEST = 0.1


def split_by_hash(key: str, seed: int = 0) -> str:
    """Return the split of one key: 80 % train, 10 % val, 10 % test in expectation.

    A key keeps its split whatever else is in the dataset, so a partial download agrees with the whole.

    Example:
        >>> split_by_hash("Ada_Lovelace") == split_by_hash("Ada_Lovelace")
        True
    """
    share = _number(key, seed) / 2**64
    return "test" if share < TEST else "val" if share < TEST + VAL else "train"


def split_by_rank(
    keys: Iterable[str], seed: int = 0, *, min_val: int = 1, min_test: int = 2
) -> dict[str, str]:
    """Return the split of each of a few keys, taking 10 % for val and for test but at least so many.

    For datasets of a handful of people, where hashing each on its own could leave a split empty. Train
    keeps at least one key; below four keys the minima are reduced, test first served.

    Example:
        >>> from collections import Counter
        >>> sorted(Counter(split_by_rank(f"person {i}" for i in range(12)).values()).items())
        [('test', 2), ('train', 9), ('val', 1)]
    """
    ranked = sorted(set(keys), key=lambda key: _number(key, seed))
    spare = max(len(ranked) - 1, 0)
    test = min(max(min_test, round(TEST * len(ranked))), max(spare - 1, min(spare, 1)))
    val = min(max(min_val, round(VAL * len(ranked))), spare - test)
    names = ["test"] * test + ["val"] * val + ["train"] * len(ranked)
    return dict(zip(ranked, names, strict=False))


def _number(key: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha1(f"{seed}:{key}".encode()).digest()[:8], "big")
