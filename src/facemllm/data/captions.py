"""Captions composed from labels: varied, grammatical, and never saying what the labels do not say.

Gender and ethnicity are perceived labels and appear only when asked for by name.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection

from facemllm.data.answers import render_age
from facemllm.data.attributes import SUBJECTIVE, third_person
from facemllm.data.phrasings import caption_parts, question_set
from facemllm.data.schema import FaceSample
from facemllm.data.vocabularies import ACTION_UNITS, age_range

_MAX_ATTRIBUTES = 4

DESCRIBABLE = frozenset(
    ("age", "age_bin", "age_range", "expression", "gender", "ethnicity", "pose", "attributes", "action_units",
     "caption")
)  # fmt: skip
"""The labels that a description can be made from."""


def write_caption(sample: FaceSample, rng: random.Random, include: Collection[str] = ()) -> str:
    """Compose a caption from the labels of a sample.

    Args:
        sample: The labelled face.
        rng: Draws the wording, the order of facts and which attributes are told.
        include: Opt-in labels to tell as well: "gender", "ethnicity".

    Example:
        >>> sample = FaceSample(id="1", image="1.jpg", labels={"age": 34}, dataset="mine", licence="own")
        >>> write_caption(sample, random.Random(2))
        'A portrait of an adult, roughly 34 years old.'
    """
    parts = caption_parts()
    hidden = {"gender", "ethnicity"} - set(include)
    labels = {task: value for task, value in sample.labels.items() if task not in hidden}
    subject = rng.choice(parts["subjects"])

    # One fact goes into the first sentence, after the noun; the others follow in sentences of their own.
    inline = [task for task in ("age", "age_bin", "expression") if task in labels]
    if "age" in labels and "age_bin" in labels:
        inline.remove("age_bin")
    first = rng.choice(inline) if inline and rng.random() < 0.7 else None
    noun = _noun(labels)
    text = rng.choice(parts["openers"]).format(noun=noun, Noun=noun[0].upper() + noun[1:])
    if first:
        key = {"age": "age", "age_bin": "bin", "expression": "expression"}[first]
        after = rng.choice(parts[f"{key}_after_noun"]).format(**_slots(first, labels[first], subject))
        place = text.index(noun) if noun in text else 0
        comma = "," if first == "age" else ""
        end = place + len(noun)
        tail = text[end:]
        text = f"{text[:end]}{comma} {after}{',' if comma and tail else ''}{tail}"
    sentences = [
        _sentence(task, value, subject, rng)
        for task, value in labels.items()
        if task not in {first, "gender"} and not (task == "age_bin" and "age" in labels)
    ]
    sentences = [sentence for sentence in sentences if sentence]
    rng.shuffle(sentences)
    return " ".join([f"{text}.", *sentences])


def tells(caption: str) -> frozenset[str]:
    """Return which of gender and ethnicity a caption of unknown origin may speak of.

    Example:
        >>> sorted(tells("A young Asian woman.")), sorted(tells("Someone with black hair."))
        (['ethnicity', 'gender'], [])
    """
    words = set(re.findall(r"[a-z]+", caption.lower()))
    return frozenset(task for task, known in caption_parts()["tells"].items() if words & set(known))


def _noun(labels: dict[str, object]) -> str:
    """Return what to call the person: as general as the labels leave it."""
    age, gender = labels.get("age"), labels.get("gender")
    if isinstance(age, float):
        years = (int(age), int(age))
    elif isinstance(labels.get("age_bin"), str):
        years = age_range(str(labels["age_bin"]))
    elif isinstance(span := labels.get("age_range"), tuple):
        years = (int(span[0]), int(span[1]))
    else:
        return f"a {gender} person" if gender else "a person"
    low, high = years
    if high <= 2:
        return f"a {gender} toddler or baby" if gender else "a toddler or baby"
    if high <= 12:
        return {"male": "a boy", "female": "a girl"}.get(str(gender), "a child")
    if low >= 20:
        return {"male": "a man", "female": "a woman"}.get(str(gender), "an adult")
    return f"a young {gender} person" if gender else "a young person"


def _sentence(task: str, value: object, subject: str, rng: random.Random) -> str:
    parts = caption_parts()
    key = {"age_bin": "bin", "attributes": "attribute", "action_units": "units"}.get(task, task)
    slots = _slots(task, value, subject, rng)
    return str(rng.choice(parts[f"{key}_sentence"]).format(**slots)) if slots else ""


def _slots(task: str, value: object, subject: str, rng: random.Random | None = None) -> dict[str, str]:
    if task == "age":
        age = render_age(float(str(value)))
        return {"subject": subject, "age": age, "years": "1 year" if age == "1" else f"{age} years"}
    if task == "age_bin":
        return {"subject": subject, "bin": str(value), **question_set("age_bin").words[str(value)]}
    if task == "expression":
        words = question_set("expression").words[str(value)]
        return {"subject": subject, **words}
    if task == "ethnicity":
        return {"subject": subject, **question_set("ethnicity").words[str(value)]}
    if task == "pose" and isinstance(value, dict):
        return {"subject": subject, "pose": _pose_clause(value)}
    if task == "action_units" and isinstance(value, dict):
        active = [f"{unit} ({ACTION_UNITS.label(unit)})" for unit, holds in value.items() if holds]
        return {"subject": subject, "units": _listed(active)} if active else {}
    if task == "attributes" and isinstance(value, dict) and rng is not None:
        present = [name for name, holds in value.items() if holds and name not in SUBJECTIVE]
        chosen = rng.sample(present, min(len(present), rng.randint(1, _MAX_ATTRIBUTES)))
        if chosen:
            return {"subject": subject, "facts": _listed([third_person(name) for name in chosen])}
    return {}


def _listed(items: list[str]) -> str:
    *others, last = items
    return f"{', '.join(others)} and {last}" if others else last


def _pose_clause(pose: dict[str, float]) -> str:
    pan, tilt = round(pose["pan"]), round(pose["tilt"])
    clauses = []
    if pan:
        clauses.append(f"is turned {_degrees(pan)} to the {'left' if pan > 0 else 'right'}")
    if tilt:
        clauses.append(f"is tilted {_degrees(tilt)} {'up' if tilt > 0 else 'down'}")
    return " and ".join(clauses) or "faces the camera"


def _degrees(angle: int) -> str:
    return f"{abs(angle)} degree{'s' * (abs(angle) != 1)}"
