import random
import re

import pytest

from facemllm.data import TASKS, FaceSample, reworded, write_questions
from facemllm.data.phrasings import question_set, rewordings, usable

QUESTION = "How old is this person?"


def test_about_half_are_left_as_they_are():
    asked = [reworded(QUESTION, random.Random(seed)) for seed in range(2000)]
    assert 0.4 < asked.count(QUESTION) / len(asked) < 0.65
    assert len(set(asked)) > 100
    assert asked == [reworded(QUESTION, random.Random(seed)) for seed in range(2000)]


def test_both_pronouns_are_drawn_as_often():
    asked = [reworded("Is this person male or female?", random.Random(seed)) for seed in range(4000)]
    he, she = (sum(bool(re.search(rf"[Ii]s {word} ", text)) for text in asked) for word in ("he", "she"))
    assert he > 200
    assert abs(he - she) < 4 * (he + she) ** 0.5


@pytest.mark.parametrize("task", [task for task in TASKS if task != "unknown"])
def test_no_training_question_becomes_one_that_is_held_out(task):
    found = question_set(task)
    lists = [found.open, found.choice, found.yes_no, found.true_false, *(rule.texts for rule in found.rules)]
    lists += [comparison.texts for comparison in found.comparisons]
    held = {phrasing.text for texts in lists for phrasing in usable(texts, "test")}
    rng = random.Random(0)
    asked = {
        reworded(phrasing.text.replace("{", "<").replace("}", ">"), rng)
        for texts in lists
        for phrasing in usable(texts, "train")
        for _ in range(60)
    }
    assert not {text.replace("{", "<").replace("}", ">").lower() for text in held} & {
        a.lower() for a in asked
    }


def test_held_out_words_are_kept_from_training():
    found = rewordings()
    for texts in (found.frames, found.persons, found.heads, found.faces):
        assert usable(texts, "train")
        assert usable(texts, "test")
    frame = usable(found.frames, "test")[0].text.partition("{")[0]
    assert not any(frame in reworded(QUESTION, random.Random(seed)) for seed in range(500))
    assert any(frame in reworded(QUESTION, random.Random(seed), "test") for seed in range(500))


def test_whose_something_is_keeps_its_grammar():
    asked = {reworded("What is the person's age?", random.Random(seed)) for seed in range(500)}
    bare = {text for text in asked if text.startswith("What is ") and text.endswith("age?")}
    assert bare == {"What is the person's age?", "What is his age?", "What is her age?"}


def test_the_canonical_question_is_asked_most_often():
    sample = FaceSample(id="1", image="1.jpg", labels={"age": 34}, dataset="mine", licence="own")
    rng = random.Random(0)
    asked = [write_questions(sample, rng, ["age"], forms=["open"])[0].question for _ in range(1000)]
    assert max(set(asked), key=asked.count) == question_set("age").canonical
