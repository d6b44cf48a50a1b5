"""Asking a FaceMLLM: photos and plain questions in, answers out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from facemllm.core.errors import ConfigError
from facemllm.model.answers import Answer
from facemllm.model.vision import View, views
from facemllm.processing.template import IGNORE, stop_ids

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
        max_new_tokens: int = 32,
        crop: str | None = None,
        faces: str = "largest",
        on_no_face: str = "error",
        detector: Any = "centerface",
        batch_size: int = 128,
    ) -> Any:
        """Ask one or many questions about the face in a photo; the photo is encoded once.

        Args:
            image: A photo (anything ``load_image`` reads), or a list of photos.
            questions: A question, or a list of K questions.
            max_new_tokens: Longest answer, in tokens.
            crop: "face" to find the face, "none" if the picture is a face crop; None for the model's default.
            faces: "largest" for the most prominent face, "all" for every face.
            on_no_face: "error", or "whole" to take the whole picture where no face is found.
            detector: Name or instance of a face detector.
            batch_size: How many answers are generated together.

        Returns:
            An :class:`Answer` for one question, a list of K for a list. With ``faces="all"``, a list of
            these, one for each face. For a list of photos, a list of all that.

        Raises:
            NoFaceError: If a photo has no face and ``on_no_face`` is "error".
            ImageError: If a photo cannot be read.

        Example:
            >>> from facemllm import AutoFaceMLLM
            >>> model = AutoFaceMLLM.from_pretrained("facemllm-tiny")  # doctest: +SKIP
            >>> model.ask("photo.jpg", "How old is this person?").text  # doctest: +SKIP
            '34'
        """
        if faces not in ("largest", "all"):
            raise ConfigError(
                "cannot choose faces", given=repr(faces), expected="'largest' or 'all'", do="choose one"
            )
        asked = [questions] if isinstance(questions, str) else list(questions)
        many = isinstance(image, (list, tuple))
        seen = [
            _views(self, picture, crop, on_no_face, detector)[: None if faces == "all" else 1]
            for picture in (image if many else [image])
        ]
        flat = [view for group in seen for view in group]
        pairs = [(index, question) for index in range(len(flat)) for question in asked]
        features = _encode(self, flat)
        answers = iter(_generate(self, flat, features, pairs, max_new_tokens, batch_size))
        results = []
        for group in seen:
            of_faces: list[Any] = [[next(answers) for _ in asked] for _ in group]
            of_faces = [item[0] for item in of_faces] if isinstance(questions, str) else of_faces
            results.append(of_faces if faces == "all" else of_faces[0])
        return results if many else results[0]

    def describe(self: Any, image: Any, *, max_new_tokens: int = 96, **options: Any) -> Any:
        """Describe the face in a photo in a sentence or two; options as in :meth:`ask`."""
        return self.ask(image, DESCRIBE, max_new_tokens=max_new_tokens, **options)

    @torch.inference_mode()
    def choose(
        self: Any,
        image: Any,
        question: str,
        options: Sequence[str],
        *,
        crop: str | None = None,
        on_no_face: str = "error",
        detector: Any = "centerface",
    ) -> Any:
        """Return the probability of each option as the answer, from the model's own likelihoods.

        The likelihood of an option is that of all its tokens and of ending there, so a longer option is not
        preferred for sharing a beginning with a shorter one. Probabilities are over the options alone.

        Args:
            image: A photo, or a list of photos.
            question: A question.
            options: At least two different answers.
            crop: As in :meth:`ask`.
            on_no_face: As in :meth:`ask`.
            detector: As in :meth:`ask`.

        Returns:
            A dict from option to probability, or a list of dicts.

        Raises:
            ConfigError: If there are fewer than two different options.
        """
        if len(set(options)) < 2 or len(set(options)) != len(options):
            raise ConfigError(
                "cannot choose",
                given=list(options),
                expected="two or more different options",
                do="pass options=[...]",
            )
        many = isinstance(image, (list, tuple))
        flat = [
            _views(self, picture, crop, on_no_face, detector)[0] for picture in (image if many else [image])
        ]
        features = _encode(self, flat)
        processor = self.checked_processor()
        encoded = [processor.encode_qa(question, option) for option in options]
        batch = {
            k: v.to(self.device) for k, v in processor.pad(encoded, with_labels=True, left=False).items()
        }
        labels = batch.pop("labels")[:, 1:]
        results = []
        for feature in features:
            logits = (
                self(**batch, encoder_features=feature.expand(len(options), -1, -1)).logits[:, :-1].float()
            )
            scores = torch.gather(logits.log_softmax(-1), 2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)
            likelihood = scores.masked_fill(labels == IGNORE, 0).sum(1)
            results.append(dict(zip(options, likelihood.softmax(0).tolist(), strict=True)))
        return results if many else results[0]

    @torch.inference_mode()
    def predict(
        self: Any,
        image: Any,
        *,
        head: str,
        crop: str | None = None,
        on_no_face: str = "error",
        detector: Any = "centerface",
    ) -> Any:
        """Return what a task head says about the face in a photo, or a list for a list of photos.

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
        many = isinstance(image, (list, tuple))
        flat = [
            _views(self, picture, crop, on_no_face, detector)[0] for picture in (image if many else [image])
        ]
        module = self.heads[head]
        results = module.predict(module(_encode(self, flat)))
        return results if many else results[0]


def _views(model: Any, image: Any, crop: str | None, on_no_face: str, detector: Any) -> list[View]:
    return views(
        image,
        model.checked_processor(),
        crop=crop or model.config.crop,
        on_no_face=on_no_face,
        detector=detector,
    )


def _encode(model: Any, flat: Sequence[View]) -> Tensor:
    """Return the encoder's features of V views [V, N, D]."""
    pixels = model.checked_processor().pixels([view.crop for view in flat])
    parts = pixels.to(model.device, model.encoder_dtype).split(64)
    return torch.cat([model.encoder(part) for part in parts])


def _generate(
    model: Any,
    flat: Sequence[View],
    features: Tensor,
    pairs: Sequence[tuple[int, str]],
    max_new_tokens: int,
    batch_size: int,
) -> Iterator[Answer]:
    processor = model.checked_processor()
    tokenizer = processor.tokenizer
    stops = stop_ids(tokenizer)
    for start in range(0, len(pairs), batch_size):
        chunk = pairs[start : start + batch_size]
        batch = processor.pad([processor.encode_prompt(q) for _, q in chunk], with_labels=False, left=True)
        output = model.generate(
            **{key: value.to(model.device) for key, value in batch.items()},
            encoder_features=features[[index for index, _ in chunk]],
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=stops,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0],
            return_dict_in_generate=True,
            output_logits=True,
        )
        new = output.sequences[:, batch["input_ids"].shape[1] :]
        logprobs = torch.stack([step.float().log_softmax(-1) for step in output.logits], dim=1)
        chosen = logprobs.gather(2, new.unsqueeze(2)).squeeze(2)
        for (index, question), ids, scores in zip(chunk, new, chosen, strict=True):
            ends = [i for i, token in enumerate(ids.tolist()) if token in stops]
            length = ends[0] + 1 if ends else len(ids)
            text = tokenizer.decode(ids[:length], skip_special_tokens=True).strip()
            yield Answer(text, question, float(scores[:length].mean().exp()), flat[index].face)
