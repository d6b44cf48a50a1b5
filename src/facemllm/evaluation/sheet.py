"""The answers that were most wrong, with their pictures; faces are made unrecognisable unless asked."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from heapq import nlargest
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from facemllm.core.errors import ImageError

if TYPE_CHECKING:
    from facemllm.evaluation.records import Record

Faces = Literal["blurred", "shown", "none"]
_SIDE, _GRAINS = 112, 9
_EACH = 8


def worst(records: Sequence[Record], task: str, most: int = _EACH) -> list[tuple[Record, float]]:
    """Return the answers of a task that are furthest from their labels, the worst first.

    Of equally wrong answers, those come first that stand first in the dataset.
    """
    wrong = (
        (record, error)
        for record in records
        if record.task == task
        and not record.head
        and record.outcome == "answer"
        and (error := _error(record)) > 0
    )
    return nlargest(most, wrong, key=lambda pair: pair[1])


def render_sheet(records: Sequence[Record], task: str, faces: Faces = "blurred") -> str:
    """Return the worst answers of a task as HTML, or nothing where every answer is right."""
    found = worst(records, task)
    cards = []
    for record, _ in found:
        picture = "" if faces == "none" else _picture(record.image, faces == "blurred")
        about = f"{escape(record.question.attribute)}: " if record.question.attribute else ""
        cards.append(
            f"<figure>{picture}<figcaption>{about}label <b>{escape(_say(record.truth))}</b>, answer "
            f"<b>{escape(_say(record.prediction))}</b><br><q>{escape(record.text[:90])}</q></figcaption></figure>"
        )
    return f'<div class="sheet">{"".join(cards)}</div>' if cards else ""


def _error(record: Record) -> float:
    truth, answer = record.truth, record.prediction
    if isinstance(truth, dict):
        stated = [axis for axis in answer if axis in truth]
        return max((abs(answer[axis] - truth[axis]) for axis in stated), default=0.0)
    if isinstance(truth, (int, float)) and isinstance(answer, (int, float)):
        return abs(answer - truth)
    return float(truth != answer)


def _picture(path: str | None, blurred: bool) -> str:
    """Return a thumbnail as an img with its bytes inside, or an empty box where there is no picture."""
    from PIL import Image

    from facemllm.processing.image import load_image

    try:
        if path is None:
            raise ImageError("no picture", given="None", expected="a path", do="none")
        image = load_image(path).convert("RGB")
    except ImageError:
        return '<div class="nopicture">no picture</div>'
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    if blurred:  # averaged to a few grains, so that nothing can be sharpened back
        image = image.resize((_GRAINS, _GRAINS), Image.Resampling.BOX).resize(
            (_SIDE, _SIDE), Image.Resampling.BICUBIC
        )
    else:
        image = image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="face" width="{_SIDE}" height="{_SIDE}" src="data:image/jpeg;base64,{data}">'


def _say(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{axis} {degrees:g}" for axis, degrees in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
