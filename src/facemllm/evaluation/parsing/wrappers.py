"""What answers come wrapped in, taken off: thinking, code fences, JSON whole, broken or amid prose."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

_ANSWER_KEYS = (
    "final_answer", "answer", "label", "prediction", "predicted", "response", "result", "output", "choice",
    "option", "verdict", "final", "conclusion", "classification", "predicted_label", "class", "category",
    "selected_option", "selected", "letter", "value",
)  # fmt: skip
_TASK_KEYS = {
    "expression": (
        "expression",
        "emotion",
        "facial_expression",
        "emotions",
        "mood",
        "dominant_emotion",
        "primary_emotion",
        "main_emotion",
        "top_emotion",
        "dominant",
        "primary",
    ),
    "age": ("age", "estimated_age", "age_estimate", "age_range", "age_years"),
    "gender": ("gender", "sex", "perceived_gender"),
    "ethnicity": ("ethnicity", "race", "perceived_ethnicity"),
    "pose": ("pose", "head_pose"),
    "au": ("action_units", "aus", "active_action_units", "active_aus", "au"),
    "attributes": ("attributes",),
}
_ASIDE = frozenset((
    "confidence", "score", "scores", "probability", "probabilities", "certainty", "explanation", "reason",
    "reasoning", "rationale", "evidence", "justification", "not", "note", "notes", "description", "thought",
    "thoughts", "analysis", "intensity", "alternatives", "alternative", "question", "options",
))  # fmt: skip
_KEY_PARTS = {
    "expression": frozenset(("emotion", "expression", "mood")),
    "age": frozenset(("age", "years")),
    "gender": frozenset(("gender", "sex")),
    "ethnicity": frozenset(("ethnicity", "race")),
    "choice": frozenset(("answer", "choice", "option")),
    "yesno": frozenset(("answer",)),
}
_SECOND = frozenset(("secondary", "second", "alternative", "possible", "other", "less"))
_WHOLE = ("attributes", "au", "pose")
"""Tasks whose answers are objects, so that names of keys are part of them."""

_FENCE = re.compile(r"```[\w-]*[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_PAIR = re.compile(r"""["']([\w -]+)["']\s*:\s*(?:"([^"]*)"?|'([^']*)'?|([^\s,{}\[\]]+))""")
_MARKED = re.compile(
    r"<answer>(.+?)(?:</answer>|\Z)|\\boxed\{(?:\\text\{)?([^{}]+)\}", re.DOTALL | re.IGNORECASE
)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,30}>")
_WRAPPED = re.compile(r"[<\\`{\[~]")
_STRUCK = re.compile(r"~~[^~\n]+~~")
_LETTER = re.compile(r"[A-Z]")
_TEXT_KEYS = ("text", "option_text", "answer_text", "choice_text", "content")
_LOW, _HIGH = ("min", "low", "lower", "from", "start"), ("max", "high", "upper", "to", "end")


class Cut(NamedTuple):
    """The part of a text that may hold an answer.

    Attributes:
        text: The part, of the same characters as the original or rewritten from JSON.
        offset: Where it began in the original; None when it was rewritten, so that positions mean nothing.
    """

    text: str
    offset: int | None = 0


def unwrap(text: str, task: str = "") -> Cut:
    r"""Take off thinking, code fences and JSON.

    Args:
        text: An answer as a model gave it.
        task: The task, for the names under which a JSON object may hold the answer.

    Example:
        >>> unwrap('<think>a smile</think>```json\n{"emotion": "happy"}\n```', "expression").text
        'happy'
    """
    if task == "attributes":
        text = text.replace("?", ":").replace("[ ]", "no ")  # "Smiling? Yes." and boxes not ticked
    if not may_be_wrapped(text):
        return as_it_is(text)
    start = text.rfind("</think>") if "</" in text else -1
    offset = start + len("</think>") if start >= 0 else 0
    inner = text[offset:] if offset else text
    if "<" in inner or "\\" in inner:
        mark = _last(_MARKED, inner)
        if mark is not None:
            begin, end = mark.span(mark.lastindex or 1)
            offset, inner = offset + begin, inner[begin:end]
        bare = _TAG.sub(lambda match: " " * len(match.group()), inner)
        inner = bare if bare.strip() else inner  # "<neutral>" is an answer
    if "~~" in inner:
        inner = _STRUCK.sub(lambda match: " " * len(match.group()), inner)
    if "```" in inner:
        fence = _FENCE.search(inner)
        if fence and fence.group(1).strip():
            offset, inner = offset + fence.start(1), fence.group(1)
    if "{" not in inner and "[" not in inner:
        stripped = inner.strip()
        return Cut("yes" if stripped == "true" else "no" if stripped == "false" else inner, offset)
    found = _load(inner)
    if found is not None:
        return Cut(_flatten(found, task), None)
    pairs = _broken(inner) if inner.lstrip()[:1] == "{" else {}
    return Cut(_flatten(pairs, task), None) if pairs else Cut(inner, offset)


def as_it_is(text: str) -> Cut:
    """Return a text with nothing taken off; the same as to construct it, and quicker."""
    return tuple.__new__(Cut, (text, 0))


def may_be_wrapped(text: str) -> bool:
    """Say quickly whether anything could be taken off a text."""
    return bool(_WRAPPED.search(text)) or "true" in text or "false" in text


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = list(pattern.finditer(text))
    return found[-1] if found else None


def _load(text: str) -> Any:
    """Return the JSON value that a text is, or the one object amid its prose; None where there is none."""
    stripped = text.strip()
    begin, end = stripped.find("{"), stripped.rfind("}")
    candidates = [stripped] if stripped[:1] in ("{", "[") else []
    if 0 <= begin < end:
        candidates.append(stripped[begin : end + 1])
    for candidate in candidates:
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, (dict, list)):
            return value
    return None


def _broken(text: str) -> dict[str, str]:
    """Return the pairs of an object that was cut off or is written with single quotes."""
    found: dict[str, str] = {}
    for match in _PAIR.finditer(text):
        value = next((part for part in match.groups()[1:] if part is not None), "")
        found.setdefault(
            match.group(1), {"True": "yes", "False": "no", "true": "yes", "false": "no"}.get(value, value)
        )
    return found


def _flatten(value: Any, task: str, depth: int = 0) -> str:
    """Write a JSON value as words; of an object with a key for the answer, only that value."""
    if depth > 20:
        return ""
    if isinstance(value, dict):
        return _of_object(value, task, depth)
    if isinstance(value, list):
        if not value and task == "au":
            return "none"
        if task == "age" and len(value) == 2 and all(type(one) in (int, float) for one in value):
            return f"{value[0]}-{value[1]}"
        return ", ".join(_flatten(inner, task, depth + 1) for inner in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _of_object(value: dict[Any, Any], task: str, depth: int) -> str:
    named = {str(key).strip().lower().replace(" ", "_"): inner for key, inner in value.items()}
    if task == "age" and (span := _bounds(named)):
        return span
    if task == "choice" and (both := _letter_and_text(named)):
        return both
    if task == "attributes" and (pair := _name_and_value(named)):
        return pair
    for key in (*_TASK_KEYS.get(task, (task,)), *_ANSWER_KEYS):
        if named.get(key) is not None:
            return _flatten(named[key], task, depth + 1)
    if any(key in named for key in _TASK_KEYS.get(task, (task,))):
        return "unknown"  # {"age": null}
    parts = _KEY_PARTS.get(task, frozenset())
    for key in named:
        words = key.split("_")
        if not parts.isdisjoint(words) and _SECOND.isdisjoint(words) and _ASIDE.isdisjoint(words):
            return _flatten(named[key], task, depth + 1)
    told = {key: inner for key, inner in value.items() if str(key).strip().lower() not in _ASIDE}
    if len(told) == 1 and task not in _WHOLE:
        return _flatten(next(iter(told.values())), task, depth + 1)
    return "; ".join(f"{key}: {_flatten(inner, task, depth + 1)}" for key, inner in told.items())


def _letter_and_text(named: dict[str, Any]) -> str:
    """Return "B. sad" for an object that has an option's letter and its text, which may contradict."""
    letter = next((v for k, v in named.items() if k in _ANSWER_KEYS and _LETTER.fullmatch(str(v))), None)
    text = next((named[key] for key in _TEXT_KEYS if isinstance(named.get(key), str)), None)
    return f"{letter}. {text}" if letter and text else ""


def _name_and_value(named: dict[str, Any]) -> str:
    """Return "Smiling: yes" for an object with an attribute's name and whether it holds."""
    name = next((named[key] for key in ("name", "attribute") if isinstance(named.get(key), str)), None)
    value = next((named[key] for key in ("value", "present", "answer") if key in named), None)
    return "" if name is None or value is None else f"{name}: {_flatten(value, '')}"


def _bounds(named: dict[str, Any]) -> str:
    """Return "20-25" for an object with a lower and an upper age."""
    ends = []
    for names in (_LOW, _HIGH):
        ends.append(
            next(
                (
                    v
                    for k, v in named.items()
                    if isinstance(v, (int, float)) and set(k.split("_")) & set(names)
                ),
                None,
            )
        )
    return f"{ends[0]}-{ends[1]}" if None not in ends else ""
