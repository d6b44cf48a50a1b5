"""Models for testing the yardstick: one that knows the labels, made wrong on purpose where a test wants it.

Samples are told apart by the colour of their pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from facemllm.data import FaceSample, canonical_question, render

Spoiler = Callable[[FaceSample, str, str], str]


def make_samples(folder: Path, labels: Sequence[dict[str, Any]], **fields: Any) -> list[FaceSample]:
    samples = []
    for index, label in enumerate(labels):
        path = folder / f"{index}.png"
        Image.new("RGB", (16, 16), (index % 256, index // 256, 7)).save(path)
        own = {key: values[index] for key, values in fields.items()}
        samples.append(
            FaceSample(id=path.name, image=str(path), labels=label, dataset="made", licence="own", **own)
        )
    return samples


class Oracle:
    """Answers from the labels; ``spoil`` may change an answer."""

    def __init__(
        self, samples: Sequence[FaceSample], spoil: Spoiler | None = None, name: str = "oracle"
    ) -> None:
        self.samples, self.spoil, self.fingerprint = list(samples), spoil, name
        self.asked: list[tuple[int, tuple[str, ...]]] = []
        self.heads = {"age": None}

    def ask(self, image: Sequence[Image.Image], questions: Sequence[str]) -> list[list[str]]:
        self.asked.append((len(image), tuple(questions)))
        return [[self._answer(self._sample(one), question) for question in questions] for one in image]

    def predict(self, image: Sequence[Image.Image], *, head: str) -> list[Any]:
        return [self._sample(one).labels[head] + 1 for one in image]

    def _sample(self, image: Image.Image) -> FaceSample:
        red, green, _ = image.getpixel((0, 0))
        return self.samples[red + 256 * green]

    def _answer(self, sample: FaceSample, question: str) -> str:
        text = "I don't know."
        for task, label in sample.labels.items():
            if task == "attributes":
                named = {canonical_question(task, name): present for name, present in label.items()}
                text = render(task, named[question]) if question in named else text
            elif task == "age_bin" and question == canonical_question("age"):
                text = label.split("-")[0]
            elif question == canonical_question(task):
                text = render(task, label)
        return self.spoil(sample, question, text) if self.spoil else text
