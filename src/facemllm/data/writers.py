"""Question writers: from the labels of a face to questions and answers in many phrasings and forms."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence

from facemllm.core.errors import DatasetError
from facemllm.data import answers
from facemllm.data.attributes import SUBJECTIVE, slots
from facemllm.data.captions import write_caption
from facemllm.data.phrasings import Layout, Phrasing, layouts, pick, question_set
from facemllm.data.schema import QA, FaceSample, Form
from facemllm.data.unknown import write_unknown
from facemllm.data.vocabularies import MAX_AGE, age_bin, age_range, rivals

FORMS: tuple[Form, ...] = ("open", "choice", "yes_no", "true_false")
TASKS = (
    "expression", "age", "age_bin", "gender", "ethnicity", "pose", "attributes", "description", "unknown",
)  # fmt: skip
OPT_IN = ("gender", "ethnicity")
"""Perceived labels: asked only when named."""
DEFAULT_TASKS = tuple(task for task in TASKS if task not in OPT_IN)

_YES_NO, _TRUE_FALSE = ("yes", "no"), ("true", "false")
_LONG_LIST = 4  # at most so many options are shown of a long list of classes, half of the time
_AGE_MARGIN = 3  # years by which an age must differ from a number it is compared with


def canonical_question(task: str, attribute: str | None = None) -> str:
    """Return the one question that evaluation asks for a task.

    Args:
        task: One of :data:`TASKS`, other than unknown.
        attribute: Which attribute, for the task ``attributes``.

    Raises:
        DatasetError: If the task has no such question, or an attribute is missing.

    Example:
        >>> canonical_question("pose"), canonical_question("attributes", "wearing_hat")
        ('What is the head pose?', 'Is the person wearing a hat?')
    """
    if task not in TASKS or task == "unknown" or (task == "attributes") != (attribute is not None):
        raise DatasetError(
            f"no canonical question for the task {task!r}",
            given=f"task {task!r}, attribute {attribute!r}",
            expected=f"one of {', '.join(TASKS[:-1])}; an attribute for the task attributes, and only for it",
            do="name another task, or an attribute",
        )
    text = question_set(task).canonical
    return text.format(**slots(attribute)) if attribute else text


def write_questions(
    sample: FaceSample,
    rng: random.Random,
    tasks: Collection[str] | None = None,
    split: str = "train",
    *,
    forms: Collection[Form] = FORMS,
    attributes: int = 8,
) -> list[QA]:
    """Write questions about a face, one of each form for every task that the sample has a label for.

    Args:
        sample: The labelled face. An age in years also answers questions about age groups.
        rng: Draws phrasings, options and their order.
        tasks: Which tasks to ask; by default all but gender and ethnicity, which must be named. Naming them
            also lets descriptions tell them.
        split: ``train`` uses the phrasings for training, ``all`` all, any other the held-out ones only.
        forms: Which forms of questions.
        attributes: At most so many attributes are asked about.

    Returns:
        In the order of :data:`TASKS`. Tasks the sample has no label for are passed over.

    Raises:
        DatasetError: If a task is unknown.

    Example:
        >>> sample = FaceSample(id="1", image="1.jpg", labels={"age": 34}, dataset="mine", licence="own")
        >>> [qa] = write_questions(sample, random.Random(0), tasks=["age"], forms=["open"])
        >>> qa.task, qa.answer, qa.label
        ('age', '34', 34)
    """
    tasks = DEFAULT_TASKS if tasks is None else tasks
    unknown = set(tasks) - set(TASKS)
    if unknown:
        raise DatasetError(
            "unknown task",
            given=", ".join(sorted(unknown)),
            expected=f"among {', '.join(TASKS)}",
            do="correct the name of the task",
        )
    found: list[QA] = []
    for task in TASKS:
        if task in tasks:
            found += _write_task(task, sample, rng, tasks, split, attributes)
    return [qa for qa in found if qa.form in forms]


def _write_task(
    task: str, sample: FaceSample, rng: random.Random, tasks: Collection[str], split: str, attributes: int
) -> Iterator[QA]:
    labels = sample.labels
    if task == "unknown":
        yield write_unknown(rng, split, tasks)
    elif task == "description":
        if described := set(labels) - (set(OPT_IN) - set(tasks)):
            text = write_caption(sample, rng, include=[name for name in OPT_IN if name in described])
            yield QA(question=_open(task, split, rng), answer=text, task=task, label=text)
    elif task == "attributes":
        askable = sorted(set(labels.get(task, ())) - SUBJECTIVE)
        for name in rng.sample(askable, min(attributes, len(askable))):
            yield _ask_attribute(name, labels[task][name], split, rng)
    elif task == "age" and "age" in labels:
        yield from _ask_age(labels["age"], split, rng)
    elif task == "age" and "age_bin" in labels:
        yield from _ask_rules("age", None, {"years": age_range(labels["age_bin"])}, split, rng)
    elif task == "pose" and "pose" in labels:
        yield from _ask_pose(labels["pose"], split, rng)
    else:
        label = age_bin(labels["age"]) if task == "age_bin" and "age" in labels else labels.get(task)
        if label is not None:
            yield from _ask_class(task, label, rivals(task, label, sample.dataset), split, rng)


def _ask_class(task: str, label: str, others: Sequence[str], split: str, rng: random.Random) -> Iterator[QA]:
    """Ask for one of several classes: openly, with options, and whether a candidate is right."""
    phrasings = question_set(task)
    yield QA(question=_open(task, split, rng), answer=answers.render(task, label), task=task, label=label)
    count = len(others)
    if count >= _LONG_LIST and (task == "age_bin" or rng.random() < 0.5):
        count = _LONG_LIST - 1
    yield _ask_choice(task, _open(task, split, rng), label, rng.sample(list(others), count), split, rng)
    for form, options in (("yes_no", _YES_NO), ("true_false", _TRUE_FALSE)):
        candidate = label if rng.random() < 0.5 or not others else rng.choice(list(others))
        texts: tuple[Phrasing, ...] = getattr(phrasings, form)
        question = pick(texts, split, rng).text.format(**phrasings.words[candidate])
        yield _binary(task, question, candidate == label, options)
    yield from _ask_rules(task, label, {}, split, rng)


def _ask_age(age: float, split: str, rng: random.Random) -> Iterator[QA]:
    years = int(answers.render_age(age))
    yield QA(question=_open("age", split, rng), answer=str(years), task="age", label=years)
    # Distractors lie at least eight years away and from each other, on both sides.
    away = [years + step * 8 + rng.randint(0, 3) * (1 if step > 0 else -1) for step in (-3, -2, -1, 1, 2, 3)]
    others = [str(other) for other in away if 0 <= other <= MAX_AGE]
    yield _ask_choice("age", _open("age", split, rng), str(years), rng.sample(others, 3), split, rng)
    numbers = [n for n in range(5, 100, 5) if abs(n - age) >= _AGE_MARGIN and abs(n - age) <= 40]
    if numbers:
        n = rng.choice(numbers)
        comparison = rng.choice(question_set("age").comparisons)
        question = pick(comparison.texts, split, rng).text.format(n=n)
        yield _binary("age", question, (age > n) == (comparison.holds == "above"), _YES_NO)
    yield from _ask_rules("age", None, {"years": (age, age)}, split, rng)


def _ask_pose(pose: dict[str, float], split: str, rng: random.Random) -> Iterator[QA]:
    text, rounded = answers.render("pose", pose), answers.round_pose(pose)
    yield QA(question=_open("pose", split, rng), answer=text, task="pose", label=rounded)
    pan = pose["pan"]
    side = "straight ahead" if abs(pan) <= 10 else "left" if pan >= 15 else "right" if pan <= -15 else None
    if side:
        question = pick(question_set("pose").choice, split, rng).text
        others = [name for name in ("left", "right", "straight ahead") if name != side]
        yield _ask_choice("pose", question, side, others, split, rng)
    yield from _ask_rules("pose", None, {axis: (angle, angle) for axis, angle in pose.items()}, split, rng)


def _ask_attribute(name: str, present: bool, split: str, rng: random.Random) -> QA:
    phrasings = question_set("attributes")
    if rng.random() < 0.2:
        texts, options = phrasings.true_false, _TRUE_FALSE
    else:
        texts, options = phrasings.yes_no, _YES_NO
    question = pick(texts, split, rng).text.format(**slots(name))
    return _binary("attributes", question, present, options).model_copy(update={"attribute": name})


def _ask_rules(
    task: str, label: str | None, facts: dict[str, tuple[float, float]], split: str, rng: random.Random
) -> Iterator[QA]:
    """Ask one yes/no question that the label decides, where possible as often with yes as with no."""
    decided = [(rule, rule.answer(label, facts)) for rule in question_set(task).rules]
    wanted = rng.random() < 0.5
    fitting = [(rule, holds) for rule, holds in decided if holds is wanted]
    fitting = fitting or [(rule, holds) for rule, holds in decided if holds is not None]
    if fitting:
        rule, holds = rng.choice(fitting)
        yield _binary(task, pick(rule.texts, split, rng).text, bool(holds), _YES_NO)


def _ask_choice(
    task: str, question: str, label: str, others: Sequence[str], split: str, rng: random.Random
) -> QA:
    options = [label, *others]
    rng.shuffle(options)
    layout = pick(layouts(), split, rng)
    text = layout.text.format(
        question=question,
        options=answers.render_options(options),
        lettered=answers.render_lettered(options),
        lines=answers.render_lettered(options, "\n"),
    )
    by_letter = isinstance(layout, Layout) and layout.answer == "letter"
    answer = answers.LETTERS[options.index(label)] if by_letter else label
    return QA(question=text, answer=answer, task=task, options=tuple(options), label=label, form="choice")


def _binary(task: str, question: str, holds: bool, options: tuple[str, str]) -> QA:
    answer = options[0] if holds else options[1]
    form: Form = "yes_no" if options == _YES_NO else "true_false"
    return QA(question=question, answer=answer, task=task, options=options, label=answer, form=form)


def _open(task: str, split: str, rng: random.Random) -> str:
    return pick(question_set(task).open, split, rng).text
