import pytest

from facemllm.data.vocabularies import (
    AGE_BINS,
    CELEBA_ATTRIBUTES,
    ETHNICITIES,
    FER2013_EXPRESSIONS,
    UTKFACE_RACES,
    VOCABULARIES,
    Vocabulary,
    age_bin,
    age_range,
    rivals,
)


def test_index_order_is_that_of_the_dataset():
    assert FER2013_EXPRESSIONS.labels == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert [UTKFACE_RACES.label(code) for code in "01234"] == ["white", "black", "asian", "indian", "other"]
    assert len(CELEBA_ATTRIBUTES) == 40
    assert CELEBA_ATTRIBUTES.index("young") == 39


def test_every_race_is_a_canonical_ethnicity():
    for name, vocabulary in VOCABULARIES.items():
        if name.endswith("races"):
            assert set(vocabulary.labels) <= set(ETHNICITIES)


def test_a_vocabulary_with_a_code_left_over_is_refused():
    with pytest.raises(AssertionError, match="one label to each"):
        Vocabulary("x", 1, ("a", "b"), ("c",))


def test_bins_cover_every_whole_year_once():
    bins = [age_bin(year) for year in range(121)]
    assert sorted(set(bins), key=AGE_BINS.index) == list(AGE_BINS)
    assert all(age_range(name)[0] <= year <= age_range(name)[1] for year, name in enumerate(bins))


def test_rivals_are_never_compatible_with_the_label():
    assert set(rivals("ethnicity", "asian", "utkface")) == {"white", "black", "indian", "other"}
    assert "asian" not in rivals("ethnicity", "east asian", "fairface")
    assert "other" not in rivals("ethnicity", "white", "unheard of")
    assert len(rivals("expression", "happy")) == 6
