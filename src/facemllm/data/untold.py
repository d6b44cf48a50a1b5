"""Questions with the answer "cannot tell", about what annotators looked for and could not see.

Where some label of a dataset cannot be told, questions with this third answer are also asked about labels
that can, so that the answer does not follow from being offered.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator

from facemllm.data.attributes import SUBJECTIVE, slots
from facemllm.data.forms import ask_choice, open_question
from facemllm.data.phrasings import pick, question_set
from facemllm.data.places import seen_parts
from facemllm.data.schema import QA, FaceSample
from facemllm.data.vocabularies import ACTION_UNITS, rivals

CANNOT_TELL = "cannot tell"
"""The option that a label which is not to be seen is answered with."""

_SHOWN = 4


def ask_untold(sample: FaceSample, tasks: Collection[str], split: str, rng: random.Random) -> Iterator[QA]:
    """Ask about every label that cannot be told, and about as many that can."""
    for entry in sample.cannot_tell:
        task, _, name = entry.partition("/")
        if task not in tasks:
            continue
        if not name:
            yield _class(task, None, sample.dataset, split, rng)
        elif name not in SUBJECTIVE:
            yield _named(task, name, CANNOT_TELL, split, rng)
            labels = seen_parts(sample) if task == "parts" else sample.labels.get(task, {})
            told = sorted(set(labels) - SUBJECTIVE)
            if told:
                known = rng.choice(told)
                yield _named(task, known, "yes" if labels[known] else "no", split, rng)
    for task in ("expression", "gender", "ethnicity"):
        if task in tasks and task in sample.labels:
            yield _class(task, sample.labels[task], sample.dataset, split, rng)


def _class(task: str, label: str | None, dataset: str, split: str, rng: random.Random) -> QA:
    """Ask for a class among some of the dataset's and "cannot tell"."""
    right = label or CANNOT_TELL
    others = list(rivals(task, right, dataset))
    shown = rng.sample(others, min(len(others), _SHOWN - (label is not None)))
    if label is not None:
        shown.append(CANNOT_TELL)
    return ask_choice(task, open_question(task, split, rng), right, shown, split, rng)


def _named(task: str, name: str, answer: str, split: str, rng: random.Random) -> QA:
    """Ask about one attribute, action unit or part, with yes, no and "cannot tell"."""
    found = question_set(task)
    if task == "attributes":
        words = slots(name)
    elif task == "parts":
        words = found.words[name]
    else:
        words = {"unit": name, "name": str(ACTION_UNITS.label(name))}
    question = pick(found.yes_no, split, rng).text.format(**words)
    others = [option for option in ("yes", "no", CANNOT_TELL) if option != answer]
    return ask_choice(task, question, answer, others, split, rng).model_copy(update={"attribute": name})
