"""What task heads say, as predictions of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facemllm.evaluation.tasks import EvalTask, Question

_VALUE_KEYS = ("label", "years", "age", "value", "mean", "prediction")
_ANGLE_KEYS = {"pan": ("pan", "yaw"), "tilt": ("tilt", "pitch")}


def head_value(task: EvalTask, question: Question, result: Any) -> Any:
    """Return the prediction in a head's result, or None where it holds none.

    A result is the value itself or a mapping that holds it: ``label``, ``age``, ``pan`` and ``tilt`` ..., or
    attribute to True or False (or to a probability).
    """
    if task.name == "pose":
        return _pose(result)
    if task.name == "attributes":
        value = result.get(question.attribute) if isinstance(result, Mapping) else None
        return None if value is None else "yes" if float(value) >= 0.5 else "no"
    if isinstance(result, Mapping):
        result = next((result[key] for key in _VALUE_KEYS if key in result), None)
    if result is None or task.label != "age":
        return result
    return float(result)


def _pose(result: Any) -> dict[str, float] | None:
    if not isinstance(result, Mapping):
        return None
    angles = {
        axis: next((float(result[k]) for k in keys if k in result), None)
        for axis, keys in _ANGLE_KEYS.items()
    }
    return {axis: angle for axis, angle in angles.items() if angle is not None} or None
