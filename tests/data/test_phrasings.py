import random
import re

import pytest

from facemllm.core.errors import DatasetError
from facemllm.data import TASKS
from facemllm.data.phrasings import Phrasing, layouts, pick, question_set, unknown_set, usable
from facemllm.data.unknown import unknown_templates
from facemllm.data.vocabularies import AGE_BINS

_SETS = [task for task in TASKS if task != "unknown"]


def _lists(task):
    """All lists of phrasings that a writer draws from."""
    found = question_set(task)
    lists = [found.open, found.choice, found.yes_no, found.true_false]
    return [
        texts
        for texts in (*lists, *(rule.texts for rule in found.rules), *(c.texts for c in found.comparisons))
        if texts
    ]


@pytest.mark.parametrize("task", _SETS)
def test_each_task_has_many_phrasings_and_no_two_alike(task):
    main = question_set(task).open or question_set(task).yes_no
    assert len(main) >= 14
    texts = [phrasing.text for texts in _lists(task) for phrasing in texts]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("task", _SETS)
def test_each_list_has_something_for_training_and_something_held_out(task):
    for texts in [*_lists(task), layouts()]:
        assert usable(texts, "train")
        assert usable(texts, "test")
        assert len(usable(texts, "all")) == len(texts)


@pytest.mark.parametrize("task", _SETS)
def test_the_canonical_question_is_one_trained_on(task):
    found = question_set(task)
    assert found.canonical in {phrasing.text for phrasing in usable(found.open or found.yes_no, "train")}


def test_an_age_group_is_what_is_asked_for():
    """The answer "3-9" tells neither a decade nor whether somebody is an adult."""
    texts = [phrasing.text for phrasing in question_set("age_bin").open]
    other = re.compile(
        r"adult|eighteen|minors|juvenile|teen|senior|child|elder|infant|bab(y|ies)|decade|(thir|for|fif)t(y|ies)|\d0s",
        re.IGNORECASE,
    )
    assert other.search("Which decade of life is this person in?")
    assert not [text for text in texts if other.search(text)]
    assert {name for text in texts for name in re.findall(r"\d+-\d+", text)} <= set(AGE_BINS)


def test_no_question_is_both_answerable_and_unknown():
    known = {phrasing.text for task in _SETS for texts in _lists(task) for phrasing in texts}
    assert not known & set(unknown_templates("all"))


def test_unknown_questions_are_many_and_distinct():
    templates = unknown_templates("all")
    assert len(templates) >= 150
    assert len(set(templates)) == len(templates)
    assert any(topic.held_out for topic in unknown_set().topics.values())


def test_without_a_phrasing_for_a_split_one_is_told():
    with pytest.raises(DatasetError, match="no phrasing for this split"):
        pick([Phrasing(text="Age?")], "test", random.Random(0))
