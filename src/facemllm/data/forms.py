"""The forms of a question: open, multiple choice, yes or no, true or false, several of many."""

from __future__ import annotations

import random
from collections.abc import Sequence

from facemllm.data import answers
from facemllm.data.phrasings import Layout, layouts, multiple_set, pick, question_set
from facemllm.data.schema import QA, Form

FORMS: tuple[Form, ...] = ("open", "choice", "yes_no", "true_false")
"""The forms that are asked by default."""

ALL_FORMS: tuple[Form, ...] = (*FORMS, "multiple")
"""With questions of which several options may be right."""

YES_NO, TRUE_FALSE = ("yes", "no"), ("true", "false")

_CANONICAL = 0.15


def ask_choice(
    task: str,
    question: str,
    label: str,
    others: Sequence[str],
    split: str,
    rng: random.Random,
    *,
    by_letter: bool = False,
) -> QA:
    """Ask for one of several options, in a drawn order, by text or letter, or always ``by_letter``."""
    options = [label, *others]
    rng.shuffle(options)
    fitting = [one for one in layouts() if one.answer == "letter"] if by_letter else layouts()
    layout = pick(fitting, split, rng)
    text = layout.text.format(
        question=question,
        options=answers.render_options(options),
        lettered=answers.render_lettered(options),
        lines=answers.render_lettered(options, "\n"),
    )
    lettered = isinstance(layout, Layout) and layout.answer == "letter"
    answer = answers.LETTERS[options.index(label)] if lettered else label
    return QA(question=text, answer=answer, task=task, options=tuple(options), label=label, form="choice")


def binary(task: str, question: str, holds: bool, options: tuple[str, str]) -> QA:
    """Ask a question whose answer is the first of two options if it holds."""
    answer = options[0] if holds else options[1]
    form: Form = "yes_no" if options == YES_NO else "true_false"
    return QA(question=question, answer=answer, task=task, options=options, label=answer, form=form)


def open_question(task: str, split: str, rng: random.Random) -> str:
    """Return a drawn wording of the open question of a task, most often the one that evaluation asks."""
    found = question_set(task)
    if split in ("train", "all") and rng.random() < _CANONICAL:
        return found.canonical
    return pick(found.open, split, rng).text


def multiple(task: str, options: Sequence[str], right: Sequence[str], split: str, rng: random.Random) -> QA:
    """Ask which of the options hold; the answer lists them in the order shown, or is "none"."""
    layout = pick(multiple_set(), split, rng)
    text = layout.text.format(options=answers.render_options(options), lines="\n".join(options))
    label = tuple(option for option in options if option in right)
    return QA(
        question=text,
        answer=answers.render_several(label),
        task=task,
        options=tuple(options),
        label=label,
        form="multiple",
    )
