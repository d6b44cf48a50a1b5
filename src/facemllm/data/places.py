"""Questions whether a part of the face is to be seen, and where it is.

Places are location tokens (:mod:`facemllm.processing.location`) of the whole picture a sample refers to, so
they are asked only where its size is known. A box is two points, its corners; a part of one landmark is one
point.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from facemllm.data.answers import read_places, render_places
from facemllm.data.forms import TRUE_FALSE, YES_NO, ask_choice, binary
from facemllm.data.phrasings import Phrasing, pick, question_set
from facemllm.data.schema import QA, FaceSample
from facemllm.data.vocabularies import LANDMARK_SCHEMES

Points = tuple[tuple[float, float], ...]

_TURNED = 30.0  # degrees of pan from which a part within the picture may be hidden by the head itself
_APART = 0.25  # of the picture's sides, by which a wrong place must lie away from the right one
_CHOICES = 3


def places_of(sample: FaceSample) -> dict[str, Points]:
    """Return where the face and its parts are, in pixels: corners of a box, or the one or two points known.

    Example:
        >>> sample = FaceSample(id="1", image="1", box=(1, 2, 3, 4), labels={}, dataset="mine", licence="own")
        >>> places_of(sample)
        {'face': ((1.0, 2.0), (3.0, 4.0))}
    """
    found: dict[str, Points] = {}
    if sample.box is not None:
        found["face"] = (sample.box[:2], sample.box[2:])
    if sample.landmarks is not None:
        for part, indices in LANDMARK_SCHEMES[sample.landmarks.scheme].parts.items():
            points = tuple(sample.landmarks.points[index] for index in indices)
            found[part] = _corners(points) if len(points) > 2 else points
    return found


def seen_parts(sample: FaceSample) -> dict[str, bool]:
    """Return which parts are to be seen: as labelled, else by whether their points lie within the picture.

    A part with points on both sides of the border is left out, and so is every part of a head that is turned
    so far that it may hide one.
    """
    labelled: dict[str, bool] = sample.labels.get("parts", {})
    if labelled or sample.size is None or sample.landmarks is None:
        return labelled
    pose = sample.labels.get("pose")
    if pose is not None and abs(pose["pan"]) > _TURNED:
        return {}
    found = {}
    for part, indices in LANDMARK_SCHEMES[sample.landmarks.scheme].parts.items():
        within = {_within(sample.landmarks.points[index], sample.size) for index in indices}
        if len(within) == 1:
            found[part] = within.pop()
    return found


def ask_parts(sample: FaceSample, split: str, rng: random.Random) -> Iterator[QA]:
    """Ask whether a part is to be seen, as often with yes as with no where both occur."""
    parts = seen_parts(sample)
    if not parts:
        return
    texts = question_set("parts")
    for form, options in (("yes_no", YES_NO), ("true_false", TRUE_FALSE)):
        wanted = rng.random() < 0.5
        fitting = [part for part, seen in parts.items() if seen is wanted] or list(parts)
        part = rng.choice(fitting)
        listed: tuple[Phrasing, ...] = getattr(texts, form)
        question = pick(listed, split, rng).text.format(**texts.words[part])
        yield binary("parts", question, parts[part], options).model_copy(update={"attribute": part})


def ask_location(sample: FaceSample, split: str, rng: random.Random) -> Iterator[QA]:
    """Ask where a part is: openly, among several places, and whether it is at one."""
    if sample.size is None:
        return
    size = sample.size
    places = {
        part: points
        for part, points in places_of(sample).items()
        if all(_within(point, size) for point in points)
    }
    if not places:
        return
    part = rng.choice(sorted(places))
    right = render_places(places[part], size)
    texts = question_set("location")
    words = texts.words[part]

    question = pick(texts.open, split, rng).text.format(**words)
    asked = QA(question=question, answer=right, task="location", label=read_places(right))
    yield asked.model_copy(update={"attribute": part})

    others = _elsewhere(read_places(right), rng)
    question = pick(texts.choice, split, rng).text.format(**words)
    chosen = ask_choice("location", question, right, others, split, rng, by_letter=True)
    yield chosen.model_copy(update={"attribute": part})

    for form, options in (("yes_no", YES_NO), ("true_false", TRUE_FALSE)):
        holds = rng.random() < 0.5
        listed: tuple[Phrasing, ...] = getattr(texts, form)
        place = right if holds else rng.choice(others)
        question = pick(listed, split, rng).text.format(place=place, **words)
        yield binary("location", question, holds, options).model_copy(update={"attribute": part})


def _elsewhere(right: Points, rng: random.Random) -> list[str]:
    """Return places of the same extent, far from the right one and each unlike the others."""
    x, y = right[0]
    wide, high = max(px for px, _ in right) - x, max(py for _, py in right) - y
    low_x, low_y = min(0.0, *(px - x for px, _ in right)), min(0.0, *(py - y for _, py in right))
    found: list[str] = []
    while len(found) < _CHOICES:
        to_x = rng.uniform(-low_x, 1 - max(wide, 0.0))
        to_y = rng.uniform(-low_y, 1 - max(high, 0.0))
        if max(abs(to_x - x), abs(to_y - y)) < _APART:
            # A place that fills the picture has no elsewhere; a smaller one stands for it.
            scale = rng.uniform(0.2, 0.5)
            to_x, to_y = rng.uniform(0, 1 - scale), rng.uniform(0, 1 - scale)
            moved = tuple(
                (to_x + scale * (px - x - low_x), to_y + scale * (py - y - low_y)) for px, py in right
            )
            if len(right) == 1 and max(abs(moved[0][0] - x), abs(moved[0][1] - y)) < _APART:
                continue
        else:
            moved = tuple((to_x + px - x, to_y + py - y) for px, py in right)
        text = render_places([(min(max(a, 0.0), 1.0), min(max(b, 0.0), 1.0)) for a, b in moved], (1, 1))
        if text not in found and read_places(text) != right:
            found.append(text)
    return found


def _corners(points: Sequence[tuple[float, float]]) -> Points:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return (min(xs), min(ys)), (max(xs), max(ys))


def _within(point: tuple[float, float], size: tuple[int, int]) -> bool:
    return 0 <= point[0] <= size[0] and 0 <= point[1] <= size[1]
