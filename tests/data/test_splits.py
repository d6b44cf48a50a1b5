from collections import Counter

import pytest

from facemllm.data.splits import split_by_hash, split_by_rank


def test_hash_split_has_its_shares_and_depends_on_the_seed():
    keys = [f"key {number}" for number in range(5000)]
    counts = Counter(map(split_by_hash, keys))
    assert counts["val"] == pytest.approx(500, abs=90)
    assert counts["test"] == pytest.approx(500, abs=90)
    assert [split_by_hash(key, 1) for key in keys] != [split_by_hash(key) for key in keys]


@pytest.mark.parametrize(
    ("people", "train", "val", "test"),
    [(1, 1, 0, 0), (2, 1, 0, 1), (3, 1, 1, 1), (4, 1, 1, 2), (12, 9, 1, 2)],
)
def test_rank_split_keeps_the_minima(people, train, val, test):
    keys = [f"{number:02d}" for number in range(people)]
    for seed in range(5):
        counts = Counter(split_by_rank(keys, seed).values())
        assert (counts["train"], counts["val"], counts["test"]) == (train, val, test)


def test_rank_split_does_not_depend_on_order():
    keys = [f"{number:02d}" for number in range(12)]
    assert split_by_rank(keys) == split_by_rank(reversed(keys))
    assert split_by_rank(keys) != split_by_rank(keys, seed=1)
