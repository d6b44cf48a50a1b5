"""The processor: photos and chats in, tensors out.

Pixels and tokens are made in one place because they must agree: the number of ``<image>`` ids in a prompt
is the number of features the encoder and connector make of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from facemllm.core.errors import TokenizationError
from facemllm.processing.image import Crop, crop_face, load_image, to_tensor
from facemllm.processing.template import (
    IGNORE,
    Encoded,
    encode_chat,
    encode_prompt,
    stop_ids,
    with_images,
)

Box = tuple[float, float, float, float]


class FaceProcessor(ProcessorMixin):
    """Crops faces, normalises pixels and tokenises questions for one model.

    Args:
        tokenizer: The language model's, with a chat template and the token ``<image>``.
        image_size: Side S of the square the encoder takes, in pixels.
        image_mean: Of the channels, values in [0, 1].
        image_std: Of the channels, values in [0, 1].
        image_tokens: N, the tokens the connector makes of one picture.
        crop_scale: Side of the crop over the longer side of the face box.
        align: Turn and scale crops so that the landmarks come nearest to the canonical face.

    Example:
        >>> from facemllm.language import tiny_language_model
        >>> llm = tiny_language_model(["How old?"], hidden_size=32, layers=1, heads=2, vocab_size=512)
        >>> processor = FaceProcessor(llm.tokenizer, image_size=32, image_tokens=4)
        >>> batch = processor(images=torch.zeros(3, 40, 40), text="How old?")
        >>> batch["pixel_values"].shape, int((batch["input_ids"] == processor.image_token_id).sum())
        (torch.Size([1, 3, 32, 32]), 4)
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_size: int = 112,
        image_mean: Sequence[float] = (0.5, 0.5, 0.5),
        image_std: Sequence[float] = (0.5, 0.5, 0.5),
        image_tokens: int = 1,
        crop_scale: float = 1.1,
        align: bool = False,
        chat_template: str | None = None,
    ) -> None:
        self.image_size = image_size
        self.image_mean = tuple(image_mean)
        self.image_std = tuple(image_std)
        self.image_tokens = image_tokens
        self.crop_scale = crop_scale
        self.align = align
        super().__init__(tokenizer, chat_template=chat_template or tokenizer.chat_template)
        self.image_token_id = tokenizer.convert_tokens_to_ids("<image>")

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        *,
        answers: Sequence[str] | None = None,
        boxes: Sequence[Box | None] | None = None,
        **_: Any,
    ) -> BatchFeature:
        """Turn pictures and questions into a batch.

        Args:
            images: A picture, or a list of B pictures (anything ``load_image`` reads).
            text: A question, or a list of B questions, one for each picture.
            answers: B answers to train on; adds ``labels``.
            boxes: Face boxes in pixels; without one, the whole picture is taken to be a face crop.

        Returns:
            ``pixel_values`` [B, 3, S, S] if there are pictures; ``input_ids``, ``attention_mask`` and, with
            answers, ``labels`` [B, L] if there is text.

        Raises:
            TokenizationError: If pictures, questions and answers differ in number.
            ImageError: If a picture cannot be read.
        """
        data: dict[str, Tensor] = {}
        pictures = [] if images is None else list(images) if isinstance(images, (list, tuple)) else [images]
        if pictures:
            data["pixel_values"] = self.pixels(
                [
                    self.crop(image, box).image
                    for image, box in zip(pictures, boxes or [None] * len(pictures), strict=True)
                ]
            )
        if text is not None:
            questions = [text] if isinstance(text, str) else list(text)
            if (pictures and len(pictures) != len(questions)) or (
                answers is not None and len(answers) != len(questions)
            ):
                raise TokenizationError(
                    "pictures and texts do not fit together",
                    given=f"{len(pictures)} pictures, {len(questions)} texts, {len(answers or ())} answers",
                    expected="as many of each",
                    do="repeat the picture for each of its questions",
                )
            count = 1 if pictures else 0
            if answers is None:
                encoded = [self.encode_prompt(question, images=count) for question in questions]
            else:
                encoded = [
                    self.encode_qa(q, a, images=count) for q, a in zip(questions, answers, strict=True)
                ]
            data |= self.pad(encoded, with_labels=answers is not None, left=answers is None)
        return BatchFeature(data)

    def crop(self, image: Any, box: Box | None = None, landmarks: Any = None) -> Crop:
        """Cut a face out as the model wants it; with no box, the whole picture is taken to be a face crop."""
        picture = load_image(image)
        if box is None:
            # The frame of the public aligned-face sets, in which a detector's box leaves such a margin.
            width, height = picture.size
            box = (0.08 * width, 0.02 * height, 0.92 * width, 0.98 * height)
        return crop_face(
            picture,
            box,
            landmarks,
            size=self.image_size,
            scale=self.crop_scale,
            align=self.align and landmarks is not None,
        )

    def pixels(self, crops: Sequence[Any]) -> Tensor:
        """Normalise face crops (RGB pictures) to pixel values [B, 3, S, S]."""
        return torch.stack(
            [to_tensor(crop, self.image_size, self.image_mean, self.image_std) for crop in crops]
        )

    def encode_prompt(self, question: str, *, images: int = 1) -> Encoded:
        """Tokenise a question for generation."""
        return encode_prompt(self.tokenizer, question, image_tokens=self.image_tokens, images=images)

    def encode_qa(self, question: str, answer: str, *, images: int = 1) -> Encoded:
        """Tokenise a question with its answer for training; labels cover the answer alone."""
        turns = [
            {"role": "user", "content": with_images(question, images)},
            {"role": "assistant", "content": answer},
        ]
        return encode_chat(self.tokenizer, turns, image_tokens=self.image_tokens, images=images)

    def stop_ids(self) -> list[int]:
        """Return the ids at which generation stops."""
        return stop_ids(self.tokenizer)

    def pad(self, encoded: Sequence[Encoded], *, with_labels: bool, left: bool) -> dict[str, Tensor]:
        """Pad to [B, L]: on the left for generation, so that all answers start at the end."""
        length = max(len(item) for item in encoded)
        pad_id = (
            self.tokenizer.pad_token_id
            if self.tokenizer.pad_token_id is not None
            else self.tokenizer.eos_token_id
        )

        def row(values: Sequence[int], fill: int) -> list[int]:
            filling = [fill] * (length - len(values))
            return filling + list(values) if left else list(values) + filling

        data = {
            "input_ids": torch.tensor([row(item.input_ids, pad_id) for item in encoded]),
            "attention_mask": torch.tensor([row([1] * len(item), 0) for item in encoded]),
        }
        if with_labels:
            data["labels"] = torch.tensor([row(item.labels, IGNORE) for item in encoded])
        return data
