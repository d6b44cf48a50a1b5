import random

from facemllm.data import as_typed

QUESTION = "How old is this person?"


def test_only_capitals_and_the_last_mark_are_left_out():
    typed = [as_typed(QUESTION, random.Random(seed)) for seed in range(500)]
    assert {text.lower().rstrip("?") for text in typed} == {QUESTION.lower().rstrip("?")}
    assert 0.7 < typed.count(QUESTION) / len(typed) < 0.9
    assert QUESTION.lower() in typed
    assert typed == [as_typed(QUESTION, random.Random(seed)) for seed in range(500)]


def test_nothing_is_not_made_of_a_question():
    assert {as_typed("?", random.Random(seed)) for seed in range(100)} == {"?"}
