import json
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import facemllm.evaluation
from facemllm.core.errors import FaceMLLMError
from facemllm.data import answers
from facemllm.data.vocabularies import AGE_BINS, ETHNICITIES, EXPRESSIONS, GENDERS
from facemllm.evaluation.parsing import OUTCOMES, TASKS, parse

CASES = [
    json.loads(line)
    for line in (Path(facemllm.evaluation.__file__).parent / "data" / "answers.jsonl")
    .read_text("utf-8")
    .splitlines()
]
OPTIONS = ["happy", "sad", "20-29"]


def _failures(cases: list[dict]) -> list[str]:
    failures = []
    for case in cases:
        got = parse(case["task"], case["text"], case["options"])
        if (got.outcome, got.label) != (case["outcome"], case["label"]):
            failures.append(f"{case} -> {got}")
    return failures


def test_published_set_is_read_as_expected():
    assert len(CASES) >= 120
    assert {case["task"] for case in CASES} == set(TASKS)
    assert {case["outcome"] for case in CASES} == set(OUTCOMES)
    assert _failures(CASES) == []


def test_published_set_can_fail():
    swapped = [case | {"label": "sad"} for case in CASES if case["label"] == "happy"]
    assert len(_failures(swapped)) == len(swapped) > 5


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        ("expression", EXPRESSIONS),
        ("gender", GENDERS),
        ("ethnicity", ETHNICITIES),
        ("age_bin", AGE_BINS),
        ("age", range(121)),
    ],
)
def test_canonical_answers_are_read_back(task, labels):
    for label in labels:
        assert parse(task, answers.render(task, label)).label == label
    assert parse(task, answers.UNKNOWN).outcome == "refusal"


@given(st.integers(-90, 90), st.integers(-90, 90))
@settings(max_examples=50, deadline=None)
def test_canonical_poses_are_read_back(pan, tilt):
    assert parse("pose", answers.render_pose(pan, tilt)).label == {"pan": pan, "tilt": tilt}


def test_negation_turns_a_label_away():
    for label in EXPRESSIONS:
        assert parse("expression", f"The person is not {label}.").outcome != "answer" or label == "neutral"
        other = "sad" if label != "sad" else "happy"
        assert parse("expression", f"Not {label}, {other}.").label == other


def test_letters_and_articles_are_told_apart():
    options = ["happy", "sad", "angry"]
    for index, letter in enumerate("ABC"):
        for form in ("{}", "({})", "{}.", "**{}**", "Option {}", "The answer is {}.", "{})"):
            assert parse("choice", form.format(letter), options).label == options[index], form
    assert parse("choice", "A woman who looks sad", options).label == "sad"
    assert parse("choice", "A. sad", options).outcome == "ambiguous"


def test_letter_is_understood_where_options_were_shown():
    assert parse("gender", "B", ["male", "female"]).label == "female"
    assert parse("gender", "B").outcome != "answer"


def test_span_points_at_the_words_read():
    text = "I think that she is not happy; she looks really furious to me."
    start, end = parse("expression", text).span
    assert text[start:end] == "furious"


@given(st.text(max_size=60), st.sampled_from(TASKS))
@settings(max_examples=300, deadline=None)
def test_any_text_has_an_outcome(text, task):
    parsed = parse(task, text, OPTIONS if task == "choice" else None)
    assert parsed.outcome in OUTCOMES
    assert (parsed.label is not None) == (parsed.outcome == "answer")
    if parsed.span is not None:
        assert 0 <= parsed.span[0] <= parsed.span[1] <= len(text)


@given(
    st.lists(
        st.sampled_from([word for case in CASES for word in case["text"].split()] + list(string.punctuation)),
        max_size=12,
    ),
    st.sampled_from(TASKS),
)
@settings(max_examples=300, deadline=None)
def test_word_salad_has_an_outcome(words, task):
    assert parse(task, " ".join(words), OPTIONS if task == "choice" else None).outcome in OUTCOMES


def test_cached_labels_cannot_be_changed_from_outside():
    parse("pose", "pan 30 degrees left, tilt 0 degrees").label["pan"] = 99
    assert parse("pose", "pan 30 degrees left, tilt 0 degrees").label["pan"] == 30


def test_unknown_task_and_missing_options_are_refused():
    with pytest.raises(FaceMLLMError, match="cannot read answers of the task 'mood'"):
        parse("mood", "happy")
    with pytest.raises(FaceMLLMError, match="cannot read a choice"):
        parse("choice", "B")
