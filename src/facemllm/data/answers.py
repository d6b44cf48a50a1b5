"""The canonical text of every kind of answer, and the way back from text to label.

Question writers render with these functions, so ``parse(qa.task, qa.answer, qa.options)`` equals ``qa.label``
for every question written. Free text of a model needs the lenient parser of the evaluation floor instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from facemllm.core.errors import DatasetError
from facemllm.data.vocabularies import ACTION_UNITS, AGE_BINS, ALL_EXPRESSIONS, ETHNICITIES, GENDERS

if TYPE_CHECKING:
    from facemllm.processing.location import LocationCodec

UNKNOWN = "I don't know."
"""What a model says to a question it has not learned to answer."""

NONE = "none"
"""What is answered where several could be named and none holds."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_CLASSES = {"expression": ALL_EXPRESSIONS, "gender": GENDERS, "ethnicity": ETHNICITIES, "age_bin": AGE_BINS}
_PLACES = re.compile(r"(?:<loc_\d{3}><loc_\d{3}>)+")
_POSE = re.compile(r"pan (\d+) degrees?( left| right)?, tilt (\d+) degrees?( up| down)?")


def render(task: str, label: Any) -> str:
    """Return the canonical answer text of a task's label.

    Example:
        >>> render("age", 33.6), render("expression", "happy")
        ('34', 'happy')
    """
    if task == "age":
        return render_age(label)
    if task == "pose":
        return render_pose(label["pan"], label["tilt"])
    if task == "unknown":
        return UNKNOWN
    return render_yes_no(label) if isinstance(label, bool) else str(label)


def render_age(age: float) -> str:
    """Return an age as whole years, halves rounded up.

    Example:
        >>> render_age(34.5)
        '35'
    """
    return str(int(age + 0.5))


def render_pose(pan: float, tilt: float) -> str:
    """Return a head pose in words, in whole degrees.

    Args:
        pan: Degrees, positive towards the image's left.
        tilt: Degrees, positive upwards.

    Example:
        >>> render_pose(30, 15)
        'pan 30 degrees left, tilt 15 degrees up'
        >>> render_pose(0, -60)
        'pan 0 degrees, tilt 60 degrees down'
    """
    return f"pan {_degrees(pan, 'left', 'right')}, tilt {_degrees(tilt, 'up', 'down')}"


def render_yes_no(holds: bool) -> str:
    """Return "yes" or "no"."""
    return "yes" if holds else "no"


def render_options(options: Sequence[str]) -> str:
    """Return options as a list in words.

    Example:
        >>> render_options(["happy", "sad", "angry"])
        'happy, sad or angry'
    """
    return f"{', '.join(options[:-1])} or {options[-1]}"


def render_lettered(options: Sequence[str], separator: str = " ") -> str:
    """Return options with letters before them.

    Example:
        >>> render_lettered(["happy", "sad"])
        'A) happy B) sad'
    """
    return separator.join(f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))


def render_several(names: Sequence[str]) -> str:
    """Return a list of what holds, or "none".

    Example:
        >>> render_several(["AU6", "AU12"]), render_several([])
        ('AU6, AU12', 'none')
    """
    return ", ".join(names) or NONE


def render_places(points: Sequence[tuple[float, float]], size: tuple[int, int]) -> str:
    """Return points of a picture as location tokens, two for each.

    Args:
        points: (x, y) in pixels; a box is its two corners.
        size: Width and height of the picture.

    Example:
        >>> render_places([(10, 20), (50, 80)], (100, 200))
        '<loc_010><loc_010><loc_050><loc_040>'
    """
    return _codec().encode_points(points, size)


def read_places(text: str) -> tuple[tuple[float, float], ...]:
    """Return the points that location tokens stand for, as shares of the picture's sides.

    Example:
        >>> read_places("<loc_010><loc_020>")
        ((0.105, 0.205),)
    """
    return tuple(_codec().decode_points(text, (1, 1)))


def parse(task: str, text: str, options: Sequence[str] | None = None, *, form: str | None = None) -> Any:
    """Return the label that a canonical answer states; the inverse of rendering.

    With options, the answer is an option's text or its letter, and the label is the option's text; in the
    form ``multiple`` it is a list of options' texts, and the label is those. "I don't know." is None.

    Raises:
        DatasetError: If the text is not a canonical answer of this task.

    Example:
        >>> parse("pose", "pan 30 degrees left, tilt 0 degrees")
        {'pan': 30.0, 'tilt': 0.0}
        >>> parse("expression", "B", ["sad", "happy"])
        'happy'
    """
    if text == UNKNOWN:
        return None
    if form == "multiple" and options is not None:
        named = () if text == NONE else tuple(text.split(", "))
        if set(named) <= set(options):
            return named
    elif options is not None:
        if text in options:
            return text
        if len(text) == 1 and text in LETTERS[: len(options)]:
            return options[LETTERS.index(text)]
    elif task in ("description", "conversation") or text in _CLASSES.get(task, ()):
        return text
    elif task == "action_units" and (text == NONE or set(text.split(", ")) <= set(ACTION_UNITS.codes)):
        return () if text == NONE else tuple(text.split(", "))
    elif task == "location" and _PLACES.fullmatch(text):
        return read_places(text)
    elif task == "age" and text.isdecimal():
        return int(text)
    elif task == "pose" and (match := _POSE.fullmatch(text)):
        pan, left_right, tilt, up_down = match.groups()
        signs = {None: 1, " left": 1, " up": 1, " right": -1, " down": -1}
        return {"pan": float(signs[left_right] * int(pan)), "tilt": float(signs[up_down] * int(tilt))}
    raise DatasetError(
        f"not a canonical answer of the task {task!r}",
        given=repr(text),
        expected=f"{render_options(options)}, or a letter" if options else f"for example {_example(task)!r}",
        do="use the parser of facemllm.evaluation for free text",
    )


def round_pose(pose: Mapping[str, float]) -> dict[str, float]:
    """Return a pose in the whole degrees that its rendering states."""
    return {axis: float(_whole(degrees)) for axis, degrees in pose.items()}


@cache
def _codec() -> LocationCodec:
    from facemllm.processing.location import LocationCodec  # brings torch, which labels do not need

    return LocationCodec()


def _degrees(angle: float, positive: str, negative: str) -> str:
    whole = _whole(angle)
    unit = "degree" if abs(whole) == 1 else "degrees"
    return f"{abs(whole)} {unit}" + (f" {positive if whole > 0 else negative}" if whole else "")


def _whole(angle: float) -> int:
    return round(angle)


def _example(task: str) -> str:
    known = {
        "age": "34", "pose": render_pose(30, -15), "unknown": UNKNOWN, "action_units": "AU6, AU12",
        "location": "<loc_010><loc_020>",
    }  # fmt: skip
    return known.get(task) or _CLASSES.get(task, ("yes",))[0]
