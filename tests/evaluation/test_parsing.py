import json
import os
import random
import re
import string
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import facemllm.evaluation
from facemllm.core.errors import FaceMLLMError
from facemllm.data import answers
from facemllm.data.vocabularies import AGE_BINS, ETHNICITIES, EXPRESSIONS, GENDERS
from facemllm.evaluation.parsing import OUTCOMES, TASKS, parse


def _read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


CASES = _read(Path(facemllm.evaluation.__file__).parent / "data" / "answers.jsonl")
HELD_OUT = _read(Path(__file__).with_name("heldout_answers.jsonl"))
OPTIONS = ["happy", "sad", "20-29"]
FUZZED = int(os.environ.get("FACEMLLM_FUZZ", "3000"))


def _failures(cases: list[dict], read=parse) -> list[str]:
    failures = []
    for case in cases:
        got = read(case["task"], case["text"], case["options"])
        if (got.outcome, got.label) != (case["outcome"], case["label"]):
            failures.append(f"{case} -> {got}")
    return failures


def naive(task: str, text: str, options: list[str] | None = None):
    """The usual way to read answers: the first letter, else the first label that occurs in the text."""
    from facemllm.evaluation.parsing import Parsed

    labels = {
        "expression": EXPRESSIONS,
        "gender": GENDERS,
        "ethnicity": ETHNICITIES,
        "yesno": ("yes", "no"),
        "choice": tuple(options or ()),
    }.get(task, ())
    letter = re.match(r"\W*([A-D])\b", text)
    if options and letter and ord(letter[1]) - 65 < len(options):
        return Parsed("answer", options[ord(letter[1]) - 65])
    numbers = [float(n) for n in re.findall(r"\d+", text)]
    if task == "age" and numbers:
        return Parsed("answer", numbers[0])
    if task == "au" and numbers:
        return Parsed("answer", [int(n) for n in numbers])
    if task == "pose" and len(numbers) > 1:
        return Parsed("answer", {"pan": numbers[0], "tilt": numbers[1]})
    found = next((label for label in labels if label.lower() in text.lower()), None)
    return Parsed("answer", found) if found else Parsed("unparsed")


# --- the published set, and answers that were written before the parser had seen them


def test_published_set_is_large_and_varied():
    assert len(CASES) >= 900
    assert {case["task"] for case in CASES} == set(TASKS)
    assert {case["outcome"] for case in CASES} == set(OUTCOMES)
    assert {"gpt-4o", "gemini", "llava", "small", "json", "cot"} <= {case["style"] for case in CASES}
    assert len({(case["task"], str(case["options"]), case["text"]) for case in CASES}) == len(CASES)


def test_published_set_is_read_as_expected():
    failures = _failures(CASES)
    assert len(failures) <= 0.01 * len(CASES), failures


def test_held_out_answers_are_other_answers_and_are_read():
    published = {(case["task"], str(case["options"]), case["text"]) for case in CASES}
    assert not published & {(case["task"], str(case["options"]), case["text"]) for case in HELD_OUT}
    failures = _failures(HELD_OUT)
    assert len(failures) <= 0.01 * len(HELD_OUT), failures


def test_published_set_can_fail():
    swapped = [case | {"label": "sad"} for case in CASES if case["label"] == "happy"]
    assert len(_failures(swapped)) == len(swapped) > 5


def test_a_naive_parser_fails_where_ours_does_not():
    for cases in (CASES, HELD_OUT):
        assert len(_failures(cases, naive)) > 0.35 * len(cases)
        assert len(_failures(cases)) < 0.01 * len(cases)
    traps = [("A woman who looks sad", "sad"), ("Not happy, sad.", "sad"), ("unhappy", "sad")]
    for text, label in traps:
        assert naive("choice", text, ["happy", "sad"]).label != label
        assert parse("choice", text, ["happy", "sad"]).label == label


# --- every label, in every frame

FRAMES = (
    "The person looks {}.",
    "They seem {}.",
    "**{}**",
    "Answer: {}",
    "I'd say {}.",
    "- {}",
    "Final answer: {}.",
    "The answer is {}!",
    "It looks like a {} face.",
    "Although it's blurry, the person seems {}.",
    '"{}"',
    "I can't be sure, but they look {}.",
    "The person in the image appears to be {}.",
    "Not sure, but I think {}.",
    "The face appears quite {} to me",
    '{{"expression": "{}"}}',
    "```\n{}\n```",
    "<think>hm, sad or happy</think>{}",
)
CONTRASTS = (
    "Not {1}, but {0}.",
    "{0}, not {1}.",
    "{0} rather than {1}.",
    "It's {0} instead of {1}.",
    "{1}? No, {0}.",
    "They don't look {1}; they look {0}.",
    "I first thought {1}, but it's {0}.",
    "neither {1} nor calm, just {0}",
    "{1}. Actually, {0}.",
    "The person is {0} and not {1}.",
    "There is no sign of {1} here, so {0}.",
)
WORDS = {
    "happy": ("happy", "joyful", "delighted"),
    "sad": ("sad", "unhappy", "melancholic"),
    "angry": ("angry", "furious"),
    "fear": ("scared", "frightened"),
    "disgust": ("disgusted",),
    "surprise": ("surprised", "shocked"),
    "neutral": ("neutral", "expressionless"),
}


@pytest.mark.parametrize("label", WORDS)
def test_every_word_of_a_label_is_read_in_every_frame(label):
    for word in WORDS[label]:
        for frame in FRAMES:
            assert parse("expression", frame.format(word)).label == label, frame.format(word)
        for other, (rival, *_) in WORDS.items():
            if other != label:
                for frame in CONTRASTS:
                    assert parse("expression", frame.format(word, rival)).label == label, (frame, word, rival)
                assert parse("expression", f"either {word} or {rival}").outcome == "ambiguous"


@given(
    st.integers(1, 99),
    st.sampled_from(
        (
            "{}",
            "{} years old",
            "She is {}.",
            "about {}",
            "I'd guess {}.",
            "Age: {}",
            "**{}**",
            "a {} year old person",
            "~{}",
            "maybe {}?",
            "aged {}",
            "He looks {} or so.",
            "My estimate would be {} years.",
            "{} y/o",
            '{{"age": {}}}',
            "I can't be sure, but I'd say {}.",
            "It's hard to say exactly, but {} seems about right.",
        )
    ),
)
def test_ages_are_read_in_every_frame(years, frame):
    assert parse("age", frame.format(years)).label == years


@given(
    st.integers(2, 8),
    st.sampled_from(("{}s", "{}'s")),
    st.sampled_from(((None, 5), ("early", 2), ("mid", 5), ("late", 8))),
    st.sampled_from((" ", "-")),
    st.sampled_from(("in her {}", "The man is in his {}.", "I'd say {}", "{}")),
)
def test_decades_are_read_as_their_middle_shifted(tens, form, shift, dash, frame):
    word, offset = shift
    decade = form.format(10 * tens)
    text = frame.format(f"{word}{dash}{decade}" if word else decade)
    assert parse("age", text).label == 10 * tens + offset


@given(
    st.integers(1, 80),
    st.integers(1, 9),
    st.sampled_from(
        (
            "{0}-{1}",
            "{0} to {1}",
            "between {0} and {1}",
            "from {0} to {1}",
            "{0}–{1} years",
            "The person is {0} - {1} years old.",
            "somewhere between {0} and {1} years old",
            "in the {0}-{1} range",
        )
    ),
)
def test_ranges_are_read_as_their_middle(low, width, frame):
    assert parse("age", frame.format(low, low + width)).label == low + width / 2


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(("left", "right")),
    st.sampled_from(("up", "down")),
    st.sampled_from(
        (
            "The head is turned {p} degrees to the {h} and tilted {t} degrees {v}.",
            "{p}° {h}, {t}° {v}",
            "**Pan**: {p}° ({h})\n**Tilt**: {t}° ({v})",
            "rotated {p} degrees to the {h}, {t} degrees {v}ward",
            "{h} {p}, {v} {t}",
            "yaw {p} {h} pitch {t} {v}",
        )
    ),
)
def test_poses_are_read_in_every_frame(pan, tilt, side, way, frame):
    expected = {"pan": pan if side == "left" else -pan, "tilt": tilt if way == "up" else -tilt}
    assert parse("pose", frame.format(p=pan, t=tilt, h=side, v=way)).label == expected


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("turned 45 d grees to the left", {"pan": 45.0}),  # a letter was lost, not a model drawn
        ("A 3D model turned 20 degrees left", {"pan": 20.0}),
        ("2 D view, 30 degrees down", {"tilt": -30.0}),
    ],
)
def test_a_number_of_dimensions_is_no_angle(text, label):
    assert parse("pose", text).label == label


@given(
    st.sets(st.sampled_from((1, 2, 4, 5, 6, 7, 9, 12, 15, 25)), min_size=1, max_size=5),
    st.sampled_from(
        (
            "{}",
            "Active AUs: {}",
            "The active action units are {}.",
            "I can see {}.",
            "{} and no AU26",
        )
    ),
)
def test_action_units_are_read_in_every_frame(units, frame):
    text = frame.format(", ".join(f"AU{unit}" for unit in sorted(units)))
    assert parse("au", text).label == sorted(units)


def test_yes_and_no_are_read_from_statements():
    for thing in ("a hat", "glasses", "earrings"):
        for frame in (
            "Yes, the person is wearing {}.",
            "She wears {}.",
            "I can see {}.",
            "There is {} visible.",
        ):
            assert parse("yesno", frame.format(thing)).label == "yes"
        for frame in (
            "The person is not wearing {}.",
            "No {}.",
            "There isn't {} visible.",
            "He lacks {}.",
            "without {}",
            "I can't see any {} here.",
            "There's no sign of {}.",
        ):
            assert parse("yesno", frame.format(thing)).label == "no"
        for frame in ("I can't tell whether the person is wearing {}.", "It is unclear whether he has {}."):
            assert parse("yesno", frame.format(thing)).outcome == "refusal"


LETTERED = (
    "{}",
    "({})",
    "{}.",
    "**{}**",
    "Option {}",
    "The answer is {}.",
    "{})",
    "Answer: {}",
    "I choose {}.",
    "\\boxed{{{}}}",
    "<answer>{}</answer>",
    "{} is correct.",
    "So the answer is ({}).",
    "It must be {}.",
    "Letter {}",
    "{}: because of the mouth",
)


def test_letters_and_articles_are_told_apart():
    options = ["happy", "sad", "angry"]
    for index, letter in enumerate("ABC"):
        for form in LETTERED:
            assert parse("choice", form.format(letter), options).label == options[index], form
        other = options[(index + 1) % 3]
        for form in ("{}. {}", "({}) {}", "The answer is {}: {}", "{} - {}", "Answer: {} ({})"):
            assert parse("choice", form.format(letter, other), options).outcome == "ambiguous", form
            assert parse("choice", form.format(letter, options[index]), options).label == options[index], form
    for option in options:
        for form in ("A woman who looks {}", "A {} man", "I think a {} person is shown"):
            assert parse("choice", form.format(option), options).label == option


def test_an_option_within_another_is_told_apart():
    options = ["Blond hair", "Dark blond hair", "no hair", "hair"]
    for option in options:
        assert parse("choice", f"The person has {option.lower()}.", options).label == option


def test_canonical_labels_of_every_task_are_read_back():
    for task, labels in {
        "expression": EXPRESSIONS,
        "gender": GENDERS,
        "ethnicity": ETHNICITIES,
        "age_bin": AGE_BINS,
        "age": range(121),
    }.items():
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


def test_letter_is_understood_where_options_were_shown():
    assert parse("gender", "B", ["male", "female"]).label == "female"
    assert parse("gender", "B").outcome != "answer"


def test_span_points_at_the_words_read():
    text = "I think that she is not happy; she looks really furious to me."
    start, end = parse("expression", text).span
    assert text[start:end] == "furious"
    text = "I can’t say — but she’s “thirty-five”."
    start, end = parse("age", text).span
    assert text[start:end] == "thirty-five"


# --- any text at all


@given(st.text(max_size=60), st.sampled_from(TASKS))
@settings(max_examples=300, deadline=None)
def test_any_text_has_an_outcome(text, task):
    parsed = parse(task, text, OPTIONS if task == "choice" else None)
    assert parsed.outcome in OUTCOMES
    assert (parsed.label is not None) == (parsed.outcome == "answer")
    if parsed.span is not None:
        assert 0 <= parsed.span[0] <= parsed.span[1] <= len(text)


def _fuzzed(count: int):
    rng = random.Random(7)
    texts = [case["text"] for case in CASES]
    words = [word for text in texts for word in text.split()]
    signs = "".join(texts) + string.punctuation + "İßﬁ\0🤖—–‘“…✓❌٣½Ⅷ\u2028"
    shown = ([*OPTIONS], ["A", "B"], ["3", "8"], [""], ["yes", "no"], ["no beard", "beard", "cannot tell"])
    for _ in range(count):
        kind = rng.random()
        if kind < 0.3:
            text = "".join(rng.choice(signs) for _ in range(rng.randrange(60)))
        elif kind < 0.6:
            text = " ".join(rng.choice(words) for _ in range(rng.randrange(25)))
        elif kind < 0.8:
            letters = list(rng.choice(texts)) or [" "]
            for _ in range(rng.randrange(1, 6)):
                letters[rng.randrange(len(letters))] = rng.choice(signs)
            text = "".join(letters)
        else:
            one, other = rng.choice(texts), rng.choice(texts)
            text = one[: rng.randrange(len(one) + 1)] + other[rng.randrange(len(other) + 1) :]
        task = rng.choice(TASKS)
        yield task, text, rng.choice(shown) if task == "choice" or rng.random() < 0.5 else None


def test_no_fuzzed_text_raises():
    # FACEMLLM_FUZZ=100000 pytest tests/evaluation/test_parsing.py -k fuzzed
    outcomes = Counter()
    for task, text, options in _fuzzed(FUZZED):
        parsed = parse(task, text, options)
        assert (parsed.label is not None) == (parsed.outcome == "answer"), (task, text, options)
        assert parsed.span is None or 0 <= parsed.span[0] <= parsed.span[1] <= len(text), (task, text)
        outcomes[parsed.outcome] += 1
    assert set(outcomes) == set(OUTCOMES)


def test_a_long_text_is_read_in_no_time():
    assert parse("age", "She is 34 years old. " + "not a happy person, or " * 5000).label == 34
    assert parse("expression", "[" * 50000).outcome == "unparsed"
    assert parse("expression", "{" * 50000 + '"a":' * 3000).outcome == "unparsed"


def test_cached_labels_cannot_be_changed_from_outside():
    parse("pose", "pan 30 degrees left, tilt 0 degrees").label["pan"] = 99
    assert parse("pose", "pan 30 degrees left, tilt 0 degrees").label["pan"] == 30
    parse("au", "AU6, AU12").label.append(99)
    assert parse("au", "AU6, AU12").label == [6, 12]


def test_unknown_task_and_missing_options_are_refused():
    with pytest.raises(FaceMLLMError, match="cannot read answers of the task 'mood'"):
        parse("mood", "happy")
    with pytest.raises(FaceMLLMError, match="cannot read a choice"):
        parse("choice", "B")


# --- the short way, and time


def _both_ways(items, monkeypatch):
    from facemllm.evaluation import parsing

    def read():
        found = [parsing._parse.__wrapped__(*item) for item in items]
        return [(one.outcome, one.label, one.span) for one in found]

    quickly, taken = parsing.quick.read_quickly, []

    def counted(*arguments):
        found = quickly(*arguments)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(parsing.quick, "read_quickly", counted)
    short = read()
    monkeypatch.setattr(parsing.quick, "read_quickly", lambda *arguments: None)
    return short, read(), sum(taken)


def test_the_short_way_reads_as_the_long_way(monkeypatch):
    cases = [(case["task"], case["text"], case["options"]) for case in (*CASES, *HELD_OUT)]
    cases += _fuzzed(FUZZED)
    items = [(task, text, tuple(options) if options else None) for task, text, options in cases]
    short, long, taken = _both_ways(items, monkeypatch)
    assert [one for one in zip(items, short, long, strict=True) if one[1] != one[2]] == []
    assert taken > 0.2 * (len(CASES) + len(HELD_OUT))


def test_a_short_way_that_reads_otherwise_is_noticed(monkeypatch):
    from facemllm.evaluation import parsing

    monkeypatch.setattr(parsing.quick, "LOUD", 0)  # then "not happy" is happy, the short way
    short, long, _ = _both_ways([("expression", "not happy", None)], monkeypatch)
    assert short != long


def test_one_look_gives_the_words_of_a_cut_and_what_they_may_be_part_of():
    from facemllm.evaluation.parsing.text import cut
    from facemllm.evaluation.parsing.triggers import WRAPPED, look, trigger_bits
    from facemllm.evaluation.parsing.wrappers import may_be_wrapped

    for _, text, _ in (*((0, case["text"], 0) for case in (*CASES, *HELD_OUT)), *_fuzzed(FUZZED)):
        words, plain, bits = look(text)
        assert (words, plain) == cut(text), text
        assert bits & ~WRAPPED & trigger_bits(words) == trigger_bits(words), text
        assert bits & WRAPPED or not may_be_wrapped(text), text
    # A dash means one thing or another by what stands around it, so what is remembered must not matter.
    assert [look(text)[0] for text in ("30 - 40", "sad - not", "- sad", "sad -")] == [
        ["30", "-", "40"], ["sad", ":", "not"], ["sad"], ["sad", ":"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "part", ["[", '{"a":', "{'a':'b' ", "<a>", "<answer>x", "```a\n", "**a", "a'", "1,", "1-", "? ", "A ",
             "not happy or sad, ", "12 34 ", "mid ", "so happy, ", "I can't tell. ", "The answer is A. ",
             "是"],
)  # fmt: skip
def test_no_text_takes_long(part):
    text = part * (100_000 // len(part))
    for task in TASKS:
        start = time.process_time()
        parse(task, text, ["happy", "sad", "A man"] if task == "choice" else None)
        assert time.process_time() - start < 1.0  # it is 0.04 s on a quiet machine


def test_a_long_answer_is_read_from_both_ends():
    thoughts = "The light falls from the side of the picture. " * 500
    assert parse("expression", f"{thoughts}Final answer: sad").label == "sad"
    assert parse("choice", f"<think>{thoughts}</think>B", ["happy", "sad"]).label == "sad"
    assert parse("age", "She is 34 years old. " + thoughts).label == 34
