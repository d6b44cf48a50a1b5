"""Puts questions about pictures to a model, in batches, and survives pictures that cannot be read."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from facemllm.core.errors import ConfigError, ImageError
from facemllm.evaluation.once import Detectors, looking_once
from facemllm.evaluation.store import Said, digest, made

_TOGETHER, _PICTURES = 128, 8
"""How many answers a FaceMLLM generates together: so many, or those about so many pictures if more."""


class Askable(Protocol):
    """What can be evaluated.

    ``ask`` takes a list of pictures and a list of questions and gives a list of answers for each picture:
    texts, or objects with a ``text`` (and a ``face``, None where none was found). Where its signature has
    ``on_no_face`` or ``crop``, they are passed. ``predict(pictures, head=name)``, if there, gives one result
    a picture. ``choose(pictures, questions, options)``, if there, gives for each picture a list with the
    probabilities of each question's options, by option. A ``fingerprint`` lets runs be resumed.
    """

    def ask(self, image: Any, questions: Any) -> Any:
        """Answer."""


def load_model(model: str | Path | Askable) -> Askable:
    """Return a model from a name, a folder, or itself.

    Raises:
        ConfigError: If it cannot be asked.
    """
    if isinstance(model, (str, Path)):
        from facemllm import AutoFaceMLLM

        found: Askable = AutoFaceMLLM.from_pretrained(str(model))
        return found
    if not callable(getattr(model, "ask", None)):
        raise ConfigError(
            "cannot evaluate this model",
            given=f"an object of type {type(model).__name__}",
            expected="a name, a folder, or an object with ask(pictures, questions)",
            do="wrap your model in a class with a method ask",
        )
    return model


class Interviewer:
    """Asks about batches of pictures.

    Each picture is searched for faces once, and encoded once, however many methods of the model look at it.

    Args:
        model: The model.
        crop: Passed to the model, unless None.
        heads: Heads to ask beside the questions.
        options: Question to options, for questions whose options' likelihoods are asked too.
    """

    def __init__(
        self,
        model: Askable,
        *,
        crop: str | None = None,
        heads: Sequence[str] = (),
        options: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.model, self.heads = model, tuple(heads)
        self.shown = dict(options or {})
        self.options = {"on_no_face": "whole"} | ({"crop": crop} if crop else {})

    def missing(self, said: Said, questions: Sequence[str], picture: str | None) -> bool:
        """Say whether something about a picture has not been asked yet.

        Args:
            said: What is known.
            questions: What is to be asked.
            picture: Digest of the picture as it is now.
        """
        if said["error"]:
            return True  # the picture may have been mended
        return not (
            said["picture"] in (None, picture)
            and said["answers"].keys() >= set(questions)
            and said["heads"].keys() >= set(self.heads)
            and said["chosen"].keys() >= self.shown.keys() & set(questions)
        )

    def ask(self, pictures: Mapping[str, str], questions: Sequence[str]) -> list[tuple[str, Said]]:
        """Ask all questions about pictures, given as id to path; returns what was said about each."""
        from facemllm.processing.image import load_image

        readable: dict[str, Any] = {}
        found: list[tuple[str, Said]] = []
        for sample, path in pictures.items():
            try:
                readable[sample] = load_image(path)
            except ImageError as error:
                found.append((sample, _failed(error)))
        with looking_once(self.model) as detectors:
            found += self._answers(readable, list(questions), detectors)
        return [(sample, said | {"picture": digest(pictures[sample])}) for sample, said in found]  # type: ignore[misc]

    def _answers(
        self, pictures: dict[str, Any], questions: list[str], detectors: Detectors
    ) -> Iterator[tuple[str, Said]]:
        if not pictures:
            return
        try:
            images = list(pictures.values())
            answers = (
                self._call(self.model.ask, detectors, images, questions)
                if questions
                else [[] for _ in images]
            )
            predict = getattr(self.model, "predict", None)
            shown = [question for question in questions if question in self.shown]
            chosen = self._chosen(images, shown, detectors)
            heads = {name: self._call(predict, detectors, images, head=name) for name in self.heads}
        except ImageError as error:
            if len(pictures) == 1:
                yield next(iter(pictures)), _failed(error)
                return
            for sample, image in pictures.items():  # one of them is of no use: find out which
                yield from self._answers({sample: image}, questions, detectors)
            return
        _check_shape(answers, len(pictures), len(questions))
        for index, sample in enumerate(pictures):
            texts = dict(zip(questions, (_text(answer) for answer in answers[index]), strict=True))
            results = {name: result[index] for name, result in heads.items()}
            options = {question: _rounded(one) for question, one in chosen[index].items()}
            face = _face(answers[index])
            yield sample, made(answers=texts, chosen=options, heads=results, face=face)

    def _chosen(self, images: list[Any], questions: list[str], detectors: Detectors) -> list[dict[str, Any]]:
        """Return, for each picture, the probabilities of the options of each question."""
        if not questions:
            return [{} for _ in images]
        choose = self.model.choose  # type: ignore[attr-defined]
        options = [list(self.shown[question]) for question in questions]
        rows = self._call(choose, detectors, images, questions, options)
        return [dict(zip(questions, row, strict=True)) for row in rows]

    def _call(self, method: Any, detectors: Detectors, *args: Any, **options: Any) -> Any:
        parameters = inspect.signature(method).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        known: dict[str, Any] = {k: v for k, v in self.options.items() if takes_any or k in parameters}
        if hasattr(self.model, "trunk_cache") and "batch_size" in parameters:
            known["batch_size"] = max(_TOGETHER, _PICTURES * len(args[1]))
        if "detector" in parameters:
            known["detector"] = detectors.of(parameters["detector"].default)
        return method(*args, **options, **known)


def _failed(error: ImageError) -> Said:
    return made(error=f"{error.what}: {error.given}")


def _check_shape(answers: Any, pictures: int, questions: int) -> None:
    shape = [len(row) if isinstance(row, (list, tuple)) else "one answer" for row in answers]
    if shape != [questions] * pictures:
        raise ConfigError(
            "model's ask gave answers that do not fit the questions",
            given=f"for each picture: {shape}",
            expected=f"{pictures} lists of {questions} answers",
            do="return, for a list of pictures and a list of questions, one list of answers for each picture",
        )


def _rounded(probabilities: Mapping[str, float]) -> dict[str, float]:
    return {option: round(float(value), 6) for option, value in probabilities.items()}


def _text(answer: Any) -> str:
    return str(getattr(answer, "text", answer))


def _face(answers: Sequence[Any]) -> bool | None:
    if not answers or not hasattr(answers[0], "face"):
        return None
    return answers[0].face is not None
