import itertools
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemllm.core.errors import DatasetError
from facemllm.data import Mixture

_DATA = [list(range(7)), list(range(100, 120)), list(range(200, 203))]


def take(mixture, count):
    return list(itertools.islice(iter(mixture), count))


@settings(max_examples=30, deadline=None)
@given(stop=st.integers(0, 120), seed=st.integers(0, 5))
def test_resuming_anywhere_continues_exactly(stop, seed):
    whole = take(Mixture(_DATA, [1, 2, 1], seed=seed), 150)
    first = Mixture(_DATA, [1, 2, 1], seed=seed)
    assert take(first, stop) == whole[:stop]
    state = json.loads(json.dumps(first.state_dict()))
    second = Mixture(_DATA, [1, 2, 1], seed=seed)
    second.load_state_dict(state)
    assert take(second, 150 - stop) == whole[stop:]


def test_other_seeds_give_other_orders():
    assert take(Mixture(_DATA, seed=0), 30) != take(Mixture(_DATA, seed=1), 30)


def test_draws_follow_the_weights():
    counts = Counter(index for index, _ in take(Mixture(_DATA, [1, 2, 1]), 4000))
    assert [counts[index] / 4000 for index in range(3)] == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_temperature_evens_sizes_out():
    assert Mixture([range(1), range(100)]).probabilities == pytest.approx([1 / 101, 100 / 101])
    assert Mixture([range(1), range(100)], temperature=2).probabilities == pytest.approx([1 / 11, 10 / 11])


def test_no_sample_repeats_within_a_pass_and_passes_differ():
    drawn = [sample for _, sample in take(Mixture([list(range(50))]), 100)]
    assert sorted(drawn[:50]) == sorted(drawn[50:]) == list(range(50))
    assert drawn[:50] != drawn[50:]


def test_epochs_end_and_a_state_inside_one_finishes_it():
    mixture = Mixture(_DATA, epoch_size=10)
    first, second = list(mixture), list(mixture)
    assert len(first) == len(second) == 10
    assert first + second == take(Mixture(_DATA), 20)
    resumed = Mixture(_DATA, epoch_size=10)
    take(resumed, 4)
    assert list(resumed) == first[4:]


def test_a_weight_of_zero_leaves_a_dataset_out():
    assert {index for index, _ in take(Mixture([[1], [], [2]], [1, 0, 1]), 50)} == {0, 2}


@pytest.mark.parametrize(
    ("datasets", "options", "message"),
    [
        ([], {}, "no datasets"),
        ([[1]], {"weights": [1, 2]}, "2 weights for 1 datasets"),
        ([[1]], {"weights": [-1]}, "weights"),
        ([[1], []], {"weights": [1, 1]}, "empty dataset"),
        ([[1]], {"temperature": 0}, "temperature 0"),
        ([[1]], {"epoch_size": 0}, "epoch_size 0"),
    ],
)
def test_mixtures_without_sense_are_refused(datasets, options, message):
    with pytest.raises(DatasetError, match=message):
        Mixture(datasets, **options)


def test_the_state_of_another_mixture_is_refused():
    state = Mixture(_DATA, seed=1).state_dict()
    with pytest.raises(DatasetError, match="another mixture"):
        Mixture(_DATA, seed=2).load_state_dict(state)
    with pytest.raises(DatasetError, match="another mixture"):
        Mixture(_DATA[:2], seed=1).load_state_dict(state)
