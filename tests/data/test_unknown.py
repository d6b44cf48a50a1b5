import random

from facemllm.data import UNKNOWN, write_unknown
from facemllm.data.unknown import unknown_templates


def test_questions_are_varied_and_seeded():
    questions = [write_unknown(random.Random(seed)).question for seed in range(2000)]
    assert len(set(questions)) > 900
    assert questions == [write_unknown(random.Random(seed)).question for seed in range(2000)]
    assert not [question for question in questions if "{" in question or not question.strip()]
    assert not [question for question in questions if " a engineer" in question or " a elephant" in question]


def test_all_are_answered_by_not_knowing():
    assert {write_unknown(random.Random(seed)).answer for seed in range(50)} == {UNKNOWN}


def test_held_out_topics_are_kept_apart():
    train, test = set(unknown_templates("train")), set(unknown_templates("test"))
    assert train
    assert test
    assert not train & test
    assert train | test == set(unknown_templates("all"))


def test_topics_that_a_trained_task_answers_are_left_out():
    question = "Is the person wearing glasses?"
    assert question in unknown_templates("train", ["age"])
    assert question not in unknown_templates("train", ["age", "attributes"])
