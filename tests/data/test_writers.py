import random
from collections import Counter

import pytest

from facemllm.core.errors import DatasetError
from facemllm.data import TASKS, UNKNOWN, Landmarks, canonical_question, parse, write_questions
from facemllm.data.phrasings import question_set, usable
from facemllm.data.vocabularies import AGE_BINS, CELEBA_ATTRIBUTES, ETHNICITIES, EXPRESSIONS

_ATTRIBUTES = {
    name: number % 2 == 0 for number, name in enumerate(CELEBA_ATTRIBUTES.labels) if name != "male"
}


@pytest.fixture
def samples(sample):
    found = [sample(expression=label) for label in EXPRESSIONS]
    found += [sample(age=float(age)) for age in range(0, 117, 3)]
    found += [sample(dataset="fairface", age_bin=label, gender="male") for label in AGE_BINS]
    found += [sample(ethnicity=label, gender="female") for label in ETHNICITIES]
    found += [sample(pose={"pan": pan, "tilt": tilt}) for pan in range(-90, 91, 15) for tilt in (-30, 0, 7.6)]
    found += [sample(action_units={"AU6": True, "AU12": True, "AU1": False, "AU2": False, "AU4": False})]
    face = sample().model_copy(update={"size": (100, 120), "box": (10.0, 20.0, 90.0, 110.0)})
    points = ((30, 50), (70, 50), (50, 70), (35, 90), (65, 90))
    found += [face.model_copy(update={"landmarks": Landmarks(scheme="five-1", points=points)})] * 20
    return [*found, sample(attributes=_ATTRIBUTES)]


@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_every_answer_reads_back_to_its_label(samples, split):
    rng = random.Random(0)
    seen = Counter()
    for one in samples:
        for qa in write_questions(one, rng, TASKS, split):
            assert parse(qa.task, qa.answer, qa.options) == qa.label, qa
            assert "{" not in qa.question, qa
            seen[qa.task, qa.form] += 1
    assert {task for task, _ in seen} == set(TASKS)
    for task in ("expression", "age_bin", "gender", "ethnicity"):
        assert all(seen[task, form] for form in ("open", "choice", "yes_no", "true_false"))


def test_same_seed_same_questions(samples):
    first, second, other = (
        [write_questions(one, random.Random(seed)) for one in samples] for seed in (0, 0, 1)
    )
    assert first == second != other


def test_gender_and_ethnicity_only_when_named(sample):
    one = sample(gender="female", ethnicity="black", age=30)
    words = {"female", "male", "gender", "ethnicity", "black", "woman", "race", "sex"}
    for seed in range(50):
        for qa in write_questions(one, random.Random(seed)):
            if qa.task != "unknown":
                assert not words & set(f"{qa.question} {qa.answer}".lower().replace(".", "").split())
    assert {qa.task for qa in write_questions(one, random.Random(0), ["gender"])} == {"gender"}
    assert not write_questions(sample(gender="female"), random.Random(0), ["age", "description"])


def test_held_out_phrasings_stay_out_of_training(sample):
    held = {phrasing.text for phrasing in usable(question_set("expression").open, "test")}
    one, rng = sample(expression="happy"), random.Random(0)
    asked = {
        split: {
            write_questions(one, rng, ["expression"], split, forms=["open"])[0].question for _ in range(300)
        }
        for split in ("train", "test")
    }
    assert asked["test"] == held
    assert len(asked["train"]) >= 14
    assert not asked["train"] & held


@pytest.mark.parametrize(
    ("labels", "question", "answer"),
    [
        ({"expression": "happy"}, "Is the person smiling?", "yes"),
        ({"expression": "sad"}, "Is the person smiling?", "no"),
        ({"expression": "surprise"}, "Is the person smiling?", None),
        ({"age": 8}, "Is the person a child?", "yes"),
        ({"age": 15}, "Is the person a child?", None),
        ({"age_bin": "3-9"}, "Is the person a child?", "yes"),
        ({"age_bin": "10-19"}, "Is the person a child?", None),
        ({"age_bin": "70+"}, "Is the person a child?", "no"),
        ({"pose": {"pan": 30, "tilt": 0}}, "Is the person looking to the left?", "yes"),
        ({"pose": {"pan": -30, "tilt": 0}}, "Is the person looking to the left?", "no"),
        ({"pose": {"pan": 7, "tilt": 0}}, "Is the person looking to the left?", None),
        ({"pose": {"pan": 0, "tilt": 0}}, "Is the person facing the camera?", "yes"),
    ],
)
def test_questions_that_follow_from_labels(sample, labels, question, answer):
    one, rng = sample(**labels), random.Random(0)
    found = {
        qa.answer
        for _ in range(250)
        for qa in write_questions(one, rng, ["expression", "age", "pose"])
        if qa.question == question
    }
    assert found == ({answer} if answer else set())


def test_comparisons_are_right_and_keep_a_margin(sample):
    rng = random.Random(0)
    for age in range(0, 100, 7):
        for qa in write_questions(sample(age=age), rng, ["age"], forms=["yes_no"]):
            numbers = [int(word) for word in qa.question.rstrip("?").split() if word.isdigit()]
            for n in numbers:
                older = any(word in qa.question for word in ("older than", "over", "more than", "above"))
                assert qa.answer == ("yes" if (age > n) == older else "no")
                assert abs(age - n) >= 3


def test_choices_hold_the_label_once_in_a_drawn_order(sample):
    rng, places = random.Random(0), Counter()
    for _ in range(300):
        [qa] = write_questions(sample(age=34), rng, ["age"], forms=["choice"])
        assert qa.options.count("34") == 1
        assert len(set(qa.options)) == 4
        assert all(option in qa.question for option in qa.options)
        places[qa.options.index("34")] += 1
    assert min(places[place] for place in range(4)) > 40


def test_yes_and_no_are_both_common(sample):
    rng = random.Random(0)
    for labels in ({"gender": "male"}, {"expression": "sad"}, {"pose": {"pan": 30, "tilt": 15}}, {"age": 40}):
        answers = Counter(
            qa.answer
            for _ in range(200)
            for qa in write_questions(sample(**labels), rng, list(labels), forms=["yes_no"])
        )
        assert 0.3 < answers["yes"] / answers.total() < 0.7, labels


def test_attributes_are_asked_by_name_and_judgements_are_not(sample):
    one = sample(attributes=_ATTRIBUTES)
    rng, seen = random.Random(0), set()
    for _ in range(40):
        found = write_questions(one, rng, ["attributes"])
        assert len({qa.attribute for qa in found}) == len(found) == 8
        seen |= {qa.attribute for qa in found}
        for qa in found:
            assert qa.answer in (("yes", "true") if _ATTRIBUTES[qa.attribute] else ("no", "false"))
    assert seen == set(_ATTRIBUTES) - {"attractive"}


def test_unknown_is_always_answered_the_same(sample):
    for seed in range(20):
        [qa] = write_questions(sample(age=3), random.Random(seed), ["unknown"])
        assert qa.answer == UNKNOWN


def test_canonical_questions():
    assert canonical_question("age") == "How old is this person?"
    assert canonical_question("expression") == "What is the expression of this person?"
    assert canonical_question("age_bin") == "Which age group is this person in?"
    assert canonical_question("gender") == "What is the perceived gender of this person?"
    assert canonical_question("attributes", "bangs") == "Does the person have bangs?"
    assert canonical_question("location", "nose") == "Where is the nose?"
    assert canonical_question("parts", "left eye") == "Can the eye on the left side of the picture be seen?"
    for task, attribute in (
        ("unknown", None),
        ("attributes", None),
        ("age", "bangs"),
        ("mood", None),
        ("parts", None),
        ("location", "ear"),
    ):
        with pytest.raises(DatasetError, match="no canonical question"):
            canonical_question(task, attribute)


def test_unknown_tasks_are_refused(sample):
    with pytest.raises(DatasetError, match="unknown task"):
        write_questions(sample(age=3), random.Random(0), ["mood"])
