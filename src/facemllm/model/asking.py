"""Asking a FaceMLLM: photos and plain questions in, answers out."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from facemllm.core.errors import ConfigError, ImageError, NoFaceError
from facemllm.model import engine, plain
from facemllm.model.answers import Answer
from facemllm.model.packing import split
from facemllm.model.requests import check_lengths, checked_count, checked_options, checked_questions
from facemllm.model.vision import View, views
from facemllm.processing.template import IGNORE, Encoded

_log = logging.getLogger(__name__)

DESCRIBE = "Describe this face."


class AskingMixin:
    """The methods of :class:`FaceMLLM` that take photos. A list of photos gives a list of results.

    ``self`` is typed as Any: a mixin cannot say that it will be mixed into a transformers model.
    """

    @torch.inference_mode()
    def ask(
        self: Any,
        image: Any,
        questions: str | Sequence[str],
        *,
        max_new_tokens: int = 96,
        crop: str | None = None,
        faces: str = "largest",
        on_no_face: str = "error",
        detector: Any = "centerface",
        batch_size: int = 128,
    ) -> Any:
        """Ask one or many questions about the face in a photo; the photo is read once.

        All questions share one reading of the picture and of what else they have in common (see
        :mod:`facemllm.model.engine`); a later call about the same picture finds it in ``model.trunk_cache``.
        Answers are greedy, and those of each question asked alone.

        Args:
            image: A photo (anything ``load_image`` reads), or a list of photos.
            questions: A question, or a list of K questions.
            max_new_tokens: Longest answer, in tokens.
            crop: "face" to find the face, "none" if the picture is a face crop; None for the model's default.
            faces: "largest" for the most prominent face, "all" for every face.
            on_no_face: "error"; "whole" to take the whole picture where no face is found; or "skip" to give
                None for a photo that has no face or cannot be read (with all faces: an empty list), and
                go on with the others. A warning names it.
            detector: Name or instance of a face detector.
            batch_size: How many answers are generated together.

        Returns:
            An :class:`Answer` for one question, a list of K for a list. With ``faces="all"``, a list of
            these, one for each face. For a list of photos, a list of all that.

        Raises:
            NoFaceError: If a photo has no face and ``on_no_face`` is "error".
            ImageError: If a photo cannot be read.
            ConfigError: If a question is blank or no text, a number is not above zero, or an option is none
                of its values.

        Example:
            >>> from facemllm import AutoFaceMLLM
            >>> model = AutoFaceMLLM.from_pretrained("facemllm-tiny")  # doctest: +SKIP
            >>> model.ask("photo.jpg", "How old is this person?").text  # doctest: +SKIP
            '34'
        """
        asked = checked_questions(questions)
        checked_count("max_new_tokens", max_new_tokens)
        checked_count("batch_size", batch_size)
        seen = _seen(self, image, faces, crop, on_no_face, detector)
        answers: list[Any] = _answers(self, seen.flat, asked, max_new_tokens, batch_size)
        return seen.results([found[0] for found in answers] if isinstance(questions, str) else answers)

    def describe(self: Any, image: Any, **options: Any) -> Any:
        """Describe the face in a photo in a sentence or two; options as in :meth:`ask`."""
        return self.ask(image, DESCRIBE, **options)

    @torch.inference_mode()
    def choose(
        self: Any,
        image: Any,
        question: str | Sequence[str],
        options: Sequence[str] | Sequence[Sequence[str]],
        *,
        crop: str | None = None,
        faces: str = "largest",
        on_no_face: str = "error",
        detector: Any = "centerface",
        batch_size: int = 128,
    ) -> Any:
        """Return the probability of each option as the answer, from the model's own likelihoods.

        The likelihood of an option is that of all its tokens and of ending there, so a longer option is not
        preferred for sharing a beginning with a shorter one. Probabilities are over the options alone. All
        options of all questions are read in one pass; what they share is read once.

        Args:
            image: A photo, or a list of photos.
            question: A question, or a list of K.
            options: At least two different answers; for several questions, a list for each or one for all.
            crop: As in :meth:`ask`.
            faces: As in :meth:`ask`.
            on_no_face: As in :meth:`ask`.
            detector: As in :meth:`ask`.
            batch_size: How many questions are read together.

        Returns:
            A dict from option to probability; a list of K for a list of questions. With ``faces="all"``, a
            list of these, one for each face. For a list of photos, a list of all that.

        Raises:
            ConfigError: If a question is blank, there are fewer than two different options, or not as many
                lists as questions.
        """
        asked = checked_questions(question)
        each = checked_options(asked, [options] if isinstance(question, str) else options)
        checked_count("batch_size", batch_size)
        seen = _seen(self, image, faces, crop, on_no_face, detector)
        processor = self.checked_processor()
        encoded = [
            [processor.encode_qa(text, option) for option in own]
            for text, own in zip(asked, each, strict=True)
        ]
        results: list[Any] = []
        for scores in _likelihoods(self, seen.flat, encoded, batch_size):
            found = [
                dict(zip(own, torch.tensor(row).softmax(0).tolist(), strict=True))
                for own, row in zip(each, scores, strict=True)
            ]
            results.append(found[0] if isinstance(question, str) else found)
        return seen.results(results)

    @torch.inference_mode()
    def predict(
        self: Any,
        image: Any,
        *,
        head: str,
        crop: str | None = None,
        faces: str = "largest",
        on_no_face: str = "error",
        detector: Any = "centerface",
    ) -> Any:
        """Return what a task head says about the face in a photo; options and lists as in :meth:`ask`.

        Raises:
            ConfigError: If the model has no such head.
        """
        if head not in self.heads:
            raise ConfigError(
                f"model has no head {head!r}",
                given=head,
                expected=f"one of {', '.join(self.heads) or '(none)'}",
                do="add one with model.add_head(name, head)",
            )
        seen = _seen(self, image, faces, crop, on_no_face, detector)
        if not seen.flat:
            return seen.results([])
        module = self.heads[head]
        return seen.results(module.predict(module(self.encode([view.crop for view in seen.flat]))))


@dataclass(frozen=True)
class _Seen:
    """The faces of one photo or of many.

    Args:
        photos: Views of each photo.
        many: Whether a list of photos was given.
        every: Whether all faces were asked for.
    """

    photos: list[list[View]]
    many: bool
    every: bool

    @property
    def flat(self) -> list[View]:
        """All views, end to end."""
        return [view for photo in self.photos for view in photo]

    def results(self, found: Iterable[Any]) -> Any:
        """Return what was found of each view in the shape in which photos and faces were asked for."""
        following = iter(found)
        photos = [[next(following) for _ in photo] for photo in self.photos]
        shaped = photos if self.every else [faces[0] if faces else None for faces in photos]
        return shaped if self.many else shaped[0]


def _seen(model: Any, image: Any, faces: str, crop: str | None, on_no_face: str, detector: Any) -> _Seen:
    """Find the faces that are asked about."""
    if faces not in ("largest", "all"):
        raise ConfigError(
            "cannot choose faces", given=repr(faces), expected="'largest' or 'all'", do="choose one"
        )
    many, most = isinstance(image, (list, tuple)), None if faces == "all" else 1
    options = {"crop": crop or model.config.crop, "detector": detector}
    options["on_no_face"] = "error" if on_no_face == "skip" else on_no_face
    processor, photos = model.checked_processor(), []
    for number, picture in enumerate(image if many else [image]):
        try:
            photos.append(views(picture, processor, **options)[:most])
        except (ImageError, NoFaceError) as error:
            if on_no_face != "skip":
                raise
            _log.warning("photo %d is skipped: %s", number, error)
            photos.append([])
    return _Seen(photos, many, faces == "all")


def _answers(
    model: Any, flat: Sequence[View], asked: Sequence[str], max_new_tokens: int, batch_size: int
) -> list[list[Answer]]:
    """Return the answers to K questions about each of V views."""
    processor = model.checked_processor()
    prompts = [processor.encode_prompt(question) for question in asked]
    check_lengths(asked, [len(prompt.input_ids) for prompt in prompts], model.config.text_config)
    cut = None if model.plain_reasons or not prompts else split(prompts)
    if cut is None:
        generated = plain.generate(
            model, _features(model, flat), prompts, max_new_tokens=max_new_tokens, batch_size=batch_size
        )
    else:
        generated = engine.generate(model, flat, cut, max_new_tokens=max_new_tokens, batch_size=batch_size)
    decode = processor.tokenizer.decode
    return [
        [
            Answer(
                decode(one.ids, skip_special_tokens=True).strip(),
                question,
                math.exp(sum(one.logprobs) / len(one.logprobs)),
                view.face,
            )
            for question, one in zip(asked, of_view, strict=True)
        ]
        for view, of_view in zip(flat, generated, strict=True)
    ]


def _likelihoods(
    model: Any, flat: Sequence[View], encoded: Sequence[Sequence[Encoded]], batch_size: int
) -> list[list[list[float]]]:
    """Return the log-likelihood of each option of K questions about each of V views."""
    every = [prompt for options in encoded for prompt in options]
    cut = None if model.plain_reasons or not every else split(every)
    if cut is not None and all(prompt.labels[len(cut.trunk)] == IGNORE for prompt in every):
        return engine.likelihoods(model, flat, encoded, batch_size=batch_size)
    features = _features(model, flat)
    by_question = [plain.likelihoods(model, features, options) for options in encoded]
    return [[of_views[view] for of_views in by_question] for view in range(len(flat))]


def _features(model: Any, flat: Sequence[View]) -> torch.Tensor:
    features: torch.Tensor = model.encode([view.crop for view in flat])
    return features
