"""Questions about facial action units."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from facemllm.data import answers
from facemllm.data.forms import TRUE_FALSE, YES_NO, ask_choice, binary, open_question
from facemllm.data.phrasings import Phrasing, pick, question_set
from facemllm.data.schema import QA
from facemllm.data.vocabularies import ACTION_UNITS

_DISTRACTORS = 3


def unit_name(unit: str) -> str:
    """Return the name of an action unit in FACS.

    Example:
        >>> unit_name("AU12")
        'lip corner puller'
    """
    return str(ACTION_UNITS.label(unit))


def ask_units(units: Mapping[str, bool], split: str, rng: random.Random) -> Iterator[QA]:
    """Ask which units are active, which one of several, and whether one is.

    Whether the answer is yes is drawn first, then a unit that makes it so, since most units are inactive in
    most pictures.
    """
    active = [unit for unit, present in units.items() if present]
    inactive = [unit for unit, present in units.items() if not present]
    yield QA(
        question=open_question("action_units", split, rng),
        answer=answers.render_several(active),
        task="action_units",
        label=tuple(active),
    )
    if active and inactive:
        right = unit_name(rng.choice(active))
        others = rng.sample([unit_name(unit) for unit in inactive], min(len(inactive), _DISTRACTORS))
        question = pick(question_set("action_units").choice, split, rng).text
        yield ask_choice("action_units", question, right, others, split, rng)
    for form, options in (("yes_no", YES_NO), ("true_false", TRUE_FALSE)):
        wanted = active if rng.random() < 0.5 else inactive
        unit = rng.choice(wanted or active or inactive)
        texts: tuple[Phrasing, ...] = getattr(question_set("action_units"), form)
        question = pick(texts, split, rng).text.format(unit=unit, name=unit_name(unit))
        asked = binary("action_units", question, units[unit], options)
        yield asked.model_copy(update={"attribute": unit})
