"""Question writers: from the labels of a face to questions and answers in many phrasings and forms."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence

from facemllm.core.errors import DatasetError
from facemllm.data import answers
from facemllm.data.attributes import SUBJECTIVE, predicate, slots
from facemllm.data.captions import DESCRIBABLE, tells, write_caption
from facemllm.data.forms import FORMS, TRUE_FALSE, YES_NO, ask_choice, binary, multiple, open_question
from facemllm.data.phrasings import Phrasing, pick, question_set
from facemllm.data.places import ask_location, ask_parts
from facemllm.data.schema import QA, FaceSample, Form
from facemllm.data.units import ask_units, unit_name
from facemllm.data.unknown import write_private, write_unknown
from facemllm.data.untold import ask_untold
from facemllm.data.vocabularies import MAX_AGE, age_bin, age_range, rivals

TASKS = (
    "expression", "age", "age_bin", "gender", "ethnicity", "pose", "attributes", "description", "unknown",
    "action_units", "parts", "location",
)  # fmt: skip
"""The tasks that questions about one face are written for; ``conversation`` is taken as it is."""
OPT_IN = ("gender", "ethnicity")
"""Perceived labels: asked only when named."""
DEFAULT_TASKS = tuple(task for task in TASKS if task not in OPT_IN)

_OF_PARTS = ("parts", "location")
_NAMED = ("attributes", *_OF_PARTS)
_LONG_LIST = 4  # at most so many options are shown of a long list of classes, half of the time
_AGE_MARGIN = 3  # years by which an age must differ from a number it is compared with


def canonical_question(task: str, attribute: str | None = None) -> str:
    """Return the one question that evaluation asks for a task.

    Args:
        task: One of :data:`TASKS`, other than unknown.
        attribute: Which attribute, for the task ``attributes``; which part, for ``parts`` and ``location``.

    Raises:
        DatasetError: If the task has no such question, or an attribute is missing.

    Example:
        >>> canonical_question("pose"), canonical_question("attributes", "wearing_hat")
        ('What is the head pose?', 'Is the person wearing a hat?')
    """
    known = [name for name in TASKS if name != "unknown"]
    found = question_set(task) if task in known else None
    named = task == "attributes" or (attribute in found.words and task in _OF_PARTS if found else False)
    if found is None or named != (attribute is not None) or (task in _OF_PARTS and not attribute):
        raise DatasetError(
            f"no canonical question for the task {task!r}",
            given=f"task {task!r}, attribute {attribute!r}",
            expected=f"one of {', '.join(known)}; an attribute or a part for {', '.join(_NAMED)} only",
            do="name another task, or an attribute",
        )
    if attribute is None:
        return found.canonical
    return found.canonical.format(**(slots(attribute) if task == "attributes" else found.words[attribute]))


def write_questions(
    sample: FaceSample,
    rng: random.Random,
    tasks: Collection[str] | None = None,
    split: str = "train",
    *,
    forms: Collection[Form] = FORMS,
    attributes: int = 8,
    private: bool = False,
) -> list[QA]:
    """Write questions about a face, one of each form for every task that the sample has a label for.

    Args:
        sample: The labelled face. An age in years also answers questions about age groups.
        rng: Draws phrasings, options and their order.
        tasks: Which tasks to ask; by default all but gender and ethnicity, which must be named. Naming them
            also lets descriptions tell them.
        split: ``train`` uses the phrasings for training, ``all`` all, any other the held-out ones only.
        forms: Which forms of questions. ``multiple``, of which several options may be right, only if named.
        attributes: At most so many attributes are asked about.
        private: Questions without an answer ask about the person (a name, a job), never about other things:
            for models that know other things.

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
    unknown = set(tasks) - {*TASKS, "conversation"}
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
            found += (
                write_private(rng, split)
                if private and task == "unknown"
                else _write_task(task, sample, rng, tasks, split, attributes)
            )
    if sample.cannot_tell:
        found += ask_untold(sample, tasks, split, rng)
    if "multiple" in forms:
        found += _ask_multiple(sample, tasks, split, rng)
    if "conversation" in sample.labels and (tasks is DEFAULT_TASKS or "conversation" in tasks):
        found += _conversation(sample)
    return [qa for qa in found if qa.form in forms]


def _write_task(
    task: str, sample: FaceSample, rng: random.Random, tasks: Collection[str], split: str, attributes: int
) -> Iterator[QA]:
    labels = sample.labels
    if task == "unknown":
        yield write_unknown(rng, split, tasks)
    elif task == "description":
        hidden = set(OPT_IN) - set(tasks)
        if described := set(labels) & DESCRIBABLE - hidden:
            caption = labels.get("caption")
            text = (
                caption
                if caption and not tells(caption) & hidden
                else write_caption(sample, rng, include=[name for name in OPT_IN if name in described])
            )
            yield QA(question=open_question(task, split, rng), answer=text, task=task, label=text)
    elif task == "attributes":
        for name in _even(labels.get(task, {}), attributes, rng):
            yield _ask_attribute(name, labels[task][name], split, rng)
    elif task == "age" and "age" in labels:
        yield from _ask_age(labels["age"], split, rng)
    elif task == "age" and "age_bin" in labels:
        yield from _ask_rules("age", None, {"years": age_range(labels["age_bin"])}, split, rng)
    elif task == "age" and "age_range" in labels:
        yield from _ask_rules("age", None, {"years": labels["age_range"]}, split, rng)
    elif task == "action_units" and labels.get(task):
        yield from ask_units(labels[task], split, rng)
    elif task == "parts":
        yield from ask_parts(sample, split, rng)
    elif task == "location":
        yield from ask_location(sample, split, rng)
    elif task == "pose" and "pose" in labels:
        yield from _ask_pose(labels["pose"], split, rng)
    else:
        label = age_bin(labels["age"]) if task == "age_bin" and "age" in labels else labels.get(task)
        if label is not None:
            yield from _ask_class(task, label, rivals(task, label, sample.dataset), split, rng)


def _ask_class(task: str, label: str, others: Sequence[str], split: str, rng: random.Random) -> Iterator[QA]:
    """Ask for one of several classes: openly, with options, and whether a candidate is right."""
    phrasings = question_set(task)
    yield QA(
        question=open_question(task, split, rng), answer=answers.render(task, label), task=task, label=label
    )
    count = len(others)
    if count >= _LONG_LIST and (task == "age_bin" or rng.random() < 0.5):
        count = _LONG_LIST - 1
    yield ask_choice(
        task, open_question(task, split, rng), label, rng.sample(list(others), count), split, rng
    )
    for form, options in (("yes_no", YES_NO), ("true_false", TRUE_FALSE)):
        candidate = label if rng.random() < 0.5 or not others else rng.choice(list(others))
        texts: tuple[Phrasing, ...] = getattr(phrasings, form)
        question = pick(texts, split, rng).text.format(**phrasings.words[candidate])
        yield binary(task, question, candidate == label, options)
    yield from _ask_rules(task, label, {}, split, rng)


def _ask_age(age: float, split: str, rng: random.Random) -> Iterator[QA]:
    years = int(answers.render_age(age))
    yield QA(question=open_question("age", split, rng), answer=str(years), task="age", label=years)
    # Distractors lie at least eight years away and from each other, on both sides.
    away = [years + step * 8 + rng.randint(0, 3) * (1 if step > 0 else -1) for step in (-3, -2, -1, 1, 2, 3)]
    others = [str(other) for other in away if 0 <= other <= MAX_AGE]
    yield ask_choice("age", open_question("age", split, rng), str(years), rng.sample(others, 3), split, rng)
    numbers = [n for n in range(3, 100) if abs(n - age) >= _AGE_MARGIN and abs(n - age) <= 40]
    if numbers:
        n = rng.choice(numbers)
        comparison = rng.choice(question_set("age").comparisons)
        question = pick(comparison.texts, split, rng).text.format(n=n)
        yield binary("age", question, (age > n) == (comparison.holds == "above"), YES_NO)
    yield from _ask_rules("age", None, {"years": (age, age)}, split, rng)


def _ask_pose(pose: dict[str, float], split: str, rng: random.Random) -> Iterator[QA]:
    stated = {axis: pose[axis] for axis in ("pan", "tilt")}
    text, rounded = answers.render("pose", stated), answers.round_pose(stated)
    yield QA(question=open_question("pose", split, rng), answer=text, task="pose", label=rounded)
    pan = pose["pan"]
    side = "straight ahead" if abs(pan) <= 10 else "left" if pan >= 15 else "right" if pan <= -15 else None
    if side:
        question = pick(question_set("pose").choice, split, rng).text
        others = [name for name in ("left", "right", "straight ahead") if name != side]
        yield ask_choice("pose", question, side, others, split, rng)
    yield from _ask_rules("pose", None, {axis: (angle, angle) for axis, angle in pose.items()}, split, rng)


def _even(attributes: Mapping[str, bool], most: int, rng: random.Random) -> list[str]:
    """Draw attributes to ask about, as many that are there as are not, since most are not in most faces."""
    askable = sorted(set(attributes) - SUBJECTIVE)
    there = [name for name in askable if attributes[name]]
    absent = [name for name in askable if not attributes[name]]
    few = min(len(there), len(absent), most // 2)
    # Where one side is short, one more of the other is asked, so that something is.
    counts = [min(len(side), few + (few < most // 2)) for side in (there, absent)]
    drawn = rng.sample(there, counts[0]) + rng.sample(absent, counts[1])
    rng.shuffle(drawn)
    return drawn


def _ask_attribute(name: str, present: bool, split: str, rng: random.Random) -> QA:
    phrasings = question_set("attributes")
    if rng.random() < 0.2:
        texts, options = phrasings.true_false, TRUE_FALSE
    else:
        texts, options = phrasings.yes_no, YES_NO
    question = pick(texts, split, rng).text.format(**slots(name))
    return binary("attributes", question, present, options).model_copy(update={"attribute": name})


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
        yield binary(task, pick(rule.texts, split, rng).text, bool(holds), YES_NO)


def _ask_multiple(sample: FaceSample, tasks: Collection[str], split: str, rng: random.Random) -> Iterator[QA]:
    """Ask which of several attributes or action units are there."""
    for task in ("attributes", "action_units"):
        named = {
            words: present
            for name, present in sample.labels.get(task, {}).items()
            if (words := _listed(task, name)) is not None
        }
        if task in tasks and len(named) >= 2:
            shown = rng.sample(sorted(named), min(len(named), rng.randint(3, 6)))
            yield multiple(task, shown, [words for words in shown if named[words]], split, rng)


def _listed(task: str, name: str) -> str | None:
    """Return how an option of a list is worded; None for what would be a denial or a judgement."""
    if task == "action_units":
        return unit_name(name)
    if name in SUBJECTIVE or name.startswith("no_"):
        return None
    return predicate(name)[1]


def _conversation(sample: FaceSample) -> Iterator[QA]:
    """Yield the questions and answers that came with the picture, as they are."""
    for question, answer in sample.labels["conversation"]:
        yield QA(
            question=question or "Describe the picture.", answer=answer, task="conversation", label=answer
        )
