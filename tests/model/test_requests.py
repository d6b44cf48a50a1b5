"""What cannot be asked is refused before anything is computed."""

import pytest

from facemllm.core.errors import ConfigError
from facemllm.model.requests import checked_count, checked_options, checked_questions


@pytest.mark.parametrize("questions", ["", " \n", None, 3, [None], ["How old?", ""], [b"How old?"]])
def test_what_is_no_question(questions, small_model, portrait):
    with pytest.raises(ConfigError, match="cannot ask this"):
        small_model.ask(portrait, questions)
    with pytest.raises(ConfigError, match="cannot ask this"):
        small_model.choose(portrait, questions, ["yes", "no"])


def test_questions_keep_their_order():
    assert checked_questions(question for question in ("b", "a")) == ["b", "a"]
    assert checked_questions([]) == []


@pytest.mark.parametrize(
    "options", ["yes", None, 3, [], ["yes"], ["yes", "yes"], [30, 40], [["a", "b"]], [["a", "b"], "yes"]]
)
def test_what_are_no_options_for_two_questions(options):
    with pytest.raises(ConfigError):
        checked_options(["One?", "Two?"], options)


@pytest.mark.parametrize("options", [{"max_new_tokens": 0}, {"batch_size": 0}, {"batch_size": 2.5}])
def test_what_is_no_count(small_model, portrait, options):
    with pytest.raises(ConfigError, match="whole number above zero"):
        small_model.ask(portrait, "How old?", **options)
    with pytest.raises(ConfigError, match="whole number above zero"):
        checked_count("batch_size", True)


@pytest.mark.parametrize("name", ["", "a.b"])
def test_what_is_no_name_for_a_head(small_model, name):
    with pytest.raises(ConfigError, match="name for a head"):
        small_model.add_head(name, "classification", classes=["a", "b"])


def test_no_pictures_have_no_answers(small_model):
    small_model.add_head("mood", "classification", classes=["a", "b"])
    assert small_model.predict([], head="mood") == small_model.ask([], "How old?") == []


def test_a_question_longer_than_the_language_model_reads(small_model, portrait):
    most = small_model.config.text_config.max_position_embeddings
    with pytest.raises(ConfigError, match="too long for the language model"):
        small_model.ask(portrait, "why " * most, crop="none")
    assert small_model.ask(portrait, "why " * 20, crop="none").question
