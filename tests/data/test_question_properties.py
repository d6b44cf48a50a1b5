"""Whatever the labels: answers read back to them, with the parser of models' answers; none is invented."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemllm.data import (
    ALL_FORMS,
    TASKS,
    FacePair,
    FaceSample,
    Landmarks,
    parse,
    write_caption,
    write_questions,
    write_verification,
)
from facemllm.data.phrasings import caption_parts, multiple_set, usable
from facemllm.data.untold import CANNOT_TELL
from facemllm.data.vocabularies import (
    ACTION_UNITS,
    AGE_BINS,
    CELEBA_ATTRIBUTES,
    ETHNICITIES,
    EXPRESSIONS,
    GENDERS,
    PARTS,
)
from facemllm.evaluation.parsing import parse as read

_ATTRIBUTES = [name for name in CELEBA_ATTRIBUTES.labels if name != "male"]
_point = st.tuples(st.floats(-20, 120), st.floats(-20, 140))


def _some(names, minimum=0):
    return st.dictionaries(st.sampled_from(names), st.booleans(), min_size=minimum, max_size=8)


_labels = st.fixed_dictionaries(
    {},
    optional={
        "expression": st.sampled_from(EXPRESSIONS),
        "age": st.floats(0, 120),
        "age_bin": st.sampled_from(AGE_BINS),
        "gender": st.sampled_from(GENDERS),
        "ethnicity": st.sampled_from(ETHNICITIES),
        "pose": st.fixed_dictionaries(
            {"pan": st.floats(-90, 90), "tilt": st.floats(-90, 90)}, optional={"roll": st.floats(-90, 90)}
        ),
        "attributes": _some(_ATTRIBUTES, 1),
        "action_units": _some(ACTION_UNITS.codes, 1),
        "parts": _some(PARTS, 1),
    },
)


@st.composite
def samples(draw):
    labels = draw(_labels)
    if "age" in labels:
        labels.pop("age_bin", None)
    untold = [task for task in ("expression", "gender", "ethnicity") if task not in labels]
    untold += [f"attributes/{name}" for name in _ATTRIBUTES[:6] if name not in labels.get("attributes", {})]
    untold += [
        f"action_units/{unit}" for unit in ("AU9", "AU10") if unit not in labels.get("action_units", {})
    ]
    return FaceSample(
        id="1",
        image="1.jpg",
        size=(100, 120),
        box=draw(st.none() | st.just((5.0, 6.0, 70.5, 110.25))),
        landmarks=draw(
            st.none() | st.builds(Landmarks, scheme=st.just("five-1"), points=st.tuples(*[_point] * 5))
        ),
        labels=labels,
        cannot_tell=tuple(draw(st.lists(st.sampled_from(untold), unique=True, max_size=4))) if untold else (),
        dataset=draw(st.sampled_from(["mine", "fairface", "utkface", "affectnet", "rafdb", "morph"])),
        licence="own",
    )


def as_read(qa):
    """Read the answer of a question as a model's answer would be, and put it beside its label."""
    options = list(qa.options) if qa.options else None
    if qa.form == "multiple":
        found = read("attributes", qa.answer, options)
        return tuple(option for option in options if found.label.get(option))
    if qa.form in ("yes_no", "true_false"):
        answer = read("yesno", qa.answer).label
        return answer if qa.form == "yes_no" else {"yes": "true", "no": "false"}[answer]
    if qa.form == "choice":
        found = read("choice", qa.answer, options)
        return CANNOT_TELL if found.outcome == "refusal" else found.label
    if qa.task == "action_units":
        found = read("attributes", qa.answer, list(ACTION_UNITS.codes)).label
        return tuple(unit for unit in ACTION_UNITS.codes if found.get(unit))
    return read(qa.task, qa.answer).label


def expected(qa):
    if qa.task == "action_units" and qa.form == "open":
        return tuple(unit for unit in ACTION_UNITS.codes if unit in qa.label)
    return qa.label


@settings(max_examples=80)
@given(sample=samples(), seed=st.integers(0, 10_000), split=st.sampled_from(["train", "test"]))
def test_every_answer_reads_back_to_its_label(sample, seed, split):
    for qa in write_questions(sample, random.Random(seed), TASKS, split, forms=ALL_FORMS):
        assert parse(qa.task, qa.answer, qa.options, form=qa.form) == qa.label, qa
        assert not re.search("[{}]", qa.question), qa
        # Places have no reader there, and neither have texts without a label.
        if qa.task in ("description", "unknown") or (qa.task == "location" and qa.form == "open"):
            continue
        assert as_read(qa) == expected(qa), qa


def test_the_property_notices_a_wrong_answer():
    sample = FaceSample(id="1", image="1", labels={"expression": "sad"}, dataset="mine", licence="own")
    [qa] = write_questions(sample, random.Random(0), ["expression"], forms=["open"])
    assert as_read(qa) == expected(qa)
    assert as_read(qa.model_copy(update={"answer": "happy"})) != expected(qa)


@settings(max_examples=60)
@given(sample=samples(), seed=st.integers(0, 10_000))
def test_every_answer_is_true_of_the_labels(sample, seed):
    labels = sample.labels
    for qa in write_questions(sample, random.Random(seed), TASKS, forms=ALL_FORMS):
        if qa.label == CANNOT_TELL:
            name = qa.task if qa.attribute is None else f"{qa.task}/{qa.attribute}"
            assert name in sample.cannot_tell
        elif qa.task == "action_units" and qa.form == "open":
            assert set(qa.label) == {unit for unit, holds in labels["action_units"].items() if holds}
        elif qa.attribute and qa.task in ("attributes", "action_units"):
            holds = labels[qa.task][qa.attribute]
            assert qa.answer in (("yes", "true") if holds else ("no", "false")) or qa.form == "choice"


@settings(max_examples=80)
@given(sample=samples(), seed=st.integers(0, 10_000), named=st.booleans())
def test_captions_never_say_what_labels_do_not(sample, seed, named):
    include = ("gender", "ethnicity") if named else ()
    text = write_caption(sample, random.Random(seed), include)
    labels = sample.labels
    words = set(re.findall(r"[a-z0-9]+", text.lower()))
    told = {name for name, group in caption_parts()["tells"].items() if words & set(group)}
    if "race" not in words:
        assert told <= {task for task in include if task in labels}
    numbers = {int(number) for number in re.findall(r"(?<!AU)\b\d+\b", text)}
    allowed = {int(float(str(labels["age"])) + 0.5)} if "age" in labels else set()
    if "pose" in labels:
        allowed |= {abs(round(angle)) for angle in labels["pose"].values()}
    if "age_bin" in labels:
        allowed |= {int(number) for number in re.findall(r"\d+", labels["age_bin"])}
    if labels.get("attributes", {}).get("5_o_clock_shadow"):
        allowed |= {5}
    assert numbers <= allowed, text
    for expression, adjective in (("happy", "happy"), ("sad", "sad"), ("angry", "angry"), ("fear", "afraid")):
        assert adjective not in words or labels.get("expression") == expression, text
    for attribute, sign in (
        ("eyeglasses", "eyeglasses"),
        ("smiling", "smiling"),
        ("bald", "bald"),
        ("bangs", "bangs"),
    ):
        assert sign not in words or labels.get("attributes", {}).get(attribute), text
    units = set(re.findall(r"AU\d+", text))
    assert units <= {unit for unit, holds in labels.get("action_units", {}).items() if holds}, text
    age = {"child", "adult", "toddler", "young"} & words
    assert not age or "age" in labels or "age_bin" in labels or labels.get("attributes", {}).get("young"), (
        text
    )


@given(same=st.booleans(), seed=st.integers(0, 1000), split=st.sampled_from(["train", "test"]))
def test_verification_reads_back(same, seed, split):
    face = FaceSample(id="1", image="1.jpg", labels={}, dataset="mine", licence="own")
    found = write_verification(FacePair(first=face, second=face, same=same), random.Random(seed), split)
    assert {qa.form for qa in found} == {"choice", "yes_no", "true_false"}
    for qa in found:
        assert parse(qa.task, qa.answer, qa.options) == qa.label == as_read(qa)
        assert qa.label in (
            ("the same person", "yes", "true") if same else ("two different people", "no", "false")
        )


def test_lists_of_what_applies_have_phrasings_for_both_splits():
    texts = [phrasing.text for phrasing in multiple_set()]
    assert len(texts) >= 12
    assert len(set(texts)) == len(texts)
    assert usable(multiple_set(), "test")
    assert len(usable(multiple_set(), "train")) >= 9


@pytest.fixture
def face():
    points = ((30, 50), (70, 50), (50, 70), (35, 90), (65, 90))
    return FaceSample(
        id="1", image="1.jpg", size=(100, 120), box=(10, 20, 90, 110), labels={}, dataset="mine",
        licence="own", landmarks=Landmarks(scheme="five-1", points=points),
    )  # fmt: skip


def test_places_are_tokens_of_the_whole_picture(face):
    seen = set()
    for seed in range(60):
        for qa in write_questions(face, random.Random(seed), ["location"], forms=["open"]):
            seen.add((qa.attribute, qa.answer))
    assert ("nose", "<loc_050><loc_058>") in seen
    assert ("face", "<loc_010><loc_016><loc_090><loc_091>") in seen
    assert ("mouth", "<loc_035><loc_075><loc_065><loc_075>") in seen
    assert {part for part, _ in seen} == {"face", "left eye", "right eye", "nose", "mouth"}


def test_a_wrong_place_is_far_from_the_right_one(face):
    for seed in range(100):
        for qa in write_questions(face, random.Random(seed), ["location"], forms=["choice"]):
            assert qa.options.count(qa.label) == 1
            right = parse("location", qa.label)
            for option in set(qa.options) - {qa.label}:
                wrong = parse("location", option)
                if len(right) == 1:
                    assert max(abs(right[0][0] - wrong[0][0]), abs(right[0][1] - wrong[0][1])) > 0.2
                assert wrong != right


def test_places_are_not_asked_of_a_picture_of_unknown_size(face):
    unknown = face.model_copy(update={"size": None})
    assert not write_questions(unknown, random.Random(0), ["location", "parts"])


def test_parts_outside_of_the_picture_are_not_there(face):
    moved = tuple((x, y - 60) for x, y in face.landmarks.points)
    cut = face.model_copy(update={"landmarks": Landmarks(scheme="five-1", points=moved)})
    answers = {}
    for seed in range(60):
        for qa in write_questions(cut, random.Random(seed), ["parts"], forms=["yes_no"]):
            answers.setdefault(qa.attribute, set()).add(qa.answer)
    assert answers == {"left eye": {"no"}, "right eye": {"no"}, "nose": {"yes"}, "mouth": {"yes"}}
    turned = cut.model_copy(update={"labels": {"pose": {"pan": 60.0, "tilt": 0.0}}})
    assert not write_questions(turned, random.Random(0), ["parts"]), "a turned head may hide a part"


def test_what_cannot_be_told_is_asked_beside_what_can():
    sample = FaceSample(
        id="1", image="1", labels={"attributes": {"smiling": True}},
        cannot_tell=("attributes/bald", "gender"), dataset="mine", licence="own",
    )  # fmt: skip
    found = write_questions(sample, random.Random(0), ["attributes", "gender"], forms=["choice"])
    assert {(qa.task, qa.attribute, qa.label) for qa in found} == {
        ("attributes", "bald", CANNOT_TELL), ("attributes", "smiling", "yes"), ("gender", None, CANNOT_TELL),
    }  # fmt: skip
    assert all(CANNOT_TELL in qa.options for qa in found)
    # Perceived gender stays out unless it is named.
    assert not [qa for qa in write_questions(sample, random.Random(0)) if qa.task == "gender"]


def test_action_units_are_as_often_active_as_not():
    units = {"AU12": True, **dict.fromkeys(("AU1", "AU2", "AU4", "AU5", "AU9", "AU15", "AU17"), False)}
    sample = FaceSample(id="1", image="1", labels={"action_units": units}, dataset="mine", licence="own")
    answers = [
        qa.answer
        for seed in range(300)
        for qa in write_questions(sample, random.Random(seed), ["action_units"], forms=["yes_no"])
    ]
    assert 0.4 < answers.count("yes") / len(answers) < 0.6


def test_conversations_are_taken_as_they_are():
    sample = FaceSample(
        id="1", image="1", labels={"conversation": [("How old?", "34"), ("", "A face.")]}, dataset="mine",
        licence="own",
    )  # fmt: skip
    found = write_questions(sample, random.Random(0), ["conversation"])
    assert [(qa.question, qa.answer) for qa in found] == [
        ("How old?", "34"),
        ("Describe the picture.", "A face."),
    ]
    assert [qa.task for qa in write_questions(sample, random.Random(0))] == ["unknown", *["conversation"] * 2]


def test_a_caption_of_unknown_origin_tells_gender_only_when_named():
    sample = FaceSample(
        id="1", image="1", labels={"caption": "A woman with bangs."}, dataset="mine", licence="own"
    )
    for seed in range(20):
        [qa] = write_questions(sample, random.Random(seed), ["description"])
        assert "woman" not in qa.answer
    [qa] = write_questions(sample, random.Random(0), ["description", "gender"])
    assert qa.answer == "A woman with bangs."


def test_attributes_are_as_often_there_as_not():
    few = {name: name in ("smiling", "bangs", "young") for name in _ATTRIBUTES}
    sample = FaceSample(id="1", image="1", labels={"attributes": few}, dataset="celeba", licence="own")
    found = write_questions(sample, random.Random(0), ["attributes"])
    answers = [qa.answer in ("yes", "true") for qa in found]
    assert (answers.count(True), answers.count(False)) == (3, 4)
    none = sample.model_copy(update={"labels": {"attributes": dict.fromkeys(_ATTRIBUTES, False)}})
    assert len(write_questions(none, random.Random(0), ["attributes"])) == 1
