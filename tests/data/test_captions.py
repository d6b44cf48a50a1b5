import random
import re

import pytest

from facemllm.data import write_caption
from facemllm.data.vocabularies import AGE_BINS, EXPRESSIONS


def captions(sample, count=60, include=()):
    return [write_caption(sample, random.Random(seed), include) for seed in range(count)]


@pytest.mark.parametrize(
    "labels",
    [
        *({"expression": label} for label in EXPRESSIONS),
        *({"age_bin": label} for label in AGE_BINS),
        {"age": 1},
        {"age": 34.4, "expression": "fear", "pose": {"pan": -30, "tilt": 0}},
        {"attributes": {"smiling": True, "bangs": True, "wearing_hat": False}},
    ],
)
def test_captions_are_sentences(sample, labels):
    for text in captions(sample(**labels)):
        assert text[0].isupper()
        assert text.endswith(".")
        assert not re.search(r"[{}]|  | ,|\.\.|,\.|\ba [aeio]|\ban [^aeiouh]|\b1 years|\b1 degrees", text), (
            text
        )


def test_captions_vary_with_the_seed_only(sample):
    one = sample(age=34, expression="happy")
    assert len(set(captions(one))) > 20
    assert captions(one) == captions(one)


def test_captions_tell_every_label_but_no_other(sample):
    for text in captions(sample(expression="sad", pose={"pan": 45, "tilt": 0})):
        assert re.search("sad", text)
        assert "45 degrees to the left" in text
        assert not re.search(r"years|adult|child|young|man|woman|male|tilted", text), text
    for text in captions(sample(attributes={"smiling": True, "bald": False, "attractive": True})):
        assert "smiling" in text
        assert not re.search("bald|attractive", text)


def test_gender_and_ethnicity_only_when_included(sample):
    one = sample(age=34, gender="female", ethnicity="east asian")
    assert not [text for text in captions(one) if re.search("woman|female|Asian|girl", text)]
    for text in captions(one, include=("gender", "ethnicity")):
        assert "woman" in text
        assert "East Asian" in text


@pytest.mark.parametrize(
    ("labels", "noun"),
    [
        ({"age": 8}, "a boy"),
        ({"age": 15}, "a young male person"),
        ({"age": 40}, "a man"),
        ({"age_bin": "10-19"}, "a young male person"),
        ({}, "a male person"),
    ],
)
def test_nouns_say_no_more_than_age_and_gender(sample, labels, noun):
    assert all(
        noun in text.lower() for text in captions(sample(gender="male", **labels), include=("gender",))
    )
