"""The processor of a model that came from LLaVA: its own picture preparation and chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from facemllm.core.errors import TokenizationError
from facemllm.processing.image import Crop, load_image
from facemllm.processing.processor import Box, FaceProcessor
from facemllm.processing.special_tokens import IMAGE_TOKEN
from facemllm.processing.template import IGNORE, Encoded, refuse_control_tokens

# For checkpoints without a template: that of LLaVA-1.5.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] %}"
    "{{ '<image>\\n' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}"
    "{{ eos_token if message['role'] == 'assistant' else ' ' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


class LlavaFaceProcessor(FaceProcessor):
    """Prepares pictures and questions exactly as a LLaVA checkpoint's own processor does.

    Whole pictures go through the checkpoint's image processor; a face is cut out only where it is asked for.
    Turns are written by the checkpoint's chat template, and tokenised as its processor does.

    Args:
        image_processor: The checkpoint's.
        tokenizer: The checkpoint's, with the token ``<image>``.
        image_size: Side S of the square the encoder takes, in pixels.
        image_tokens: N, the tokens of one picture.
        stop_token_ids: At which of its tokens an answer ends.
        chat_template: The checkpoint's; that of LLaVA-1.5 if it has none.

    Source: arXiv 2310.03744 (LLaVA-1.5).
    """

    def __init__(
        self,
        image_processor: Any,
        tokenizer: Any,
        image_size: int = 336,
        image_tokens: int = 576,
        crop_scale: float = 1.1,
        stop_token_ids: Sequence[int] = (),
        chat_template: str | None = None,
    ) -> None:
        # transformers registers and saves the parts that the processor class names in its constructor.
        self.image_size, self.image_tokens = image_size, image_tokens
        self.image_mean = tuple(image_processor.image_mean)
        self.image_std = tuple(image_processor.image_std)
        self.crop_scale, self.align = crop_scale, False
        self.stop_token_ids = list(stop_token_ids)
        template = chat_template or getattr(tokenizer, "chat_template", None) or CHAT_TEMPLATE
        super(FaceProcessor, self).__init__(image_processor, tokenizer, chat_template=template)
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)

    def crop(self, image: Any, box: Box | None = None, landmarks: Any = None) -> Crop:
        """Return the picture as it is, or cut a face out of it where there is a box."""
        if box is not None:
            return super().crop(image, box, landmarks)
        return Crop(load_image(image), None, np.eye(2, 3))

    def pixels(self, crops: Sequence[Any]) -> Tensor:
        """Prepare pictures as the checkpoint does [B, 3, S, S]."""
        pixels: Tensor = self.image_processor(images=list(crops), return_tensors="pt")["pixel_values"]
        return pixels

    def encode_prompt(self, question: str, *, images: int = 1) -> Encoded:
        """Tokenise a question for generation."""
        ids = self._ids([self._turn("user", question, images)], prompt=True)
        return self._encoded(ids, len(ids))

    def encode_qa(self, question: str, answer: str, *, images: int = 1) -> Encoded:
        """Tokenise a question with its answer; labels cover the answer and its end.

        Raises:
            TokenizationError: If the prompt's ids are not the first ids of the whole.
        """
        user = self._turn("user", question, images)
        prompt = self._ids([user], prompt=True)
        whole = self._ids([user, self._turn("assistant", answer, 0)], prompt=False)
        if whole[: len(prompt)] != prompt:
            raise TokenizationError(
                "chat cannot be masked exactly",
                given="a template whose prompt changes when the answer is added",
                expected="an answer that directly follows the generation prompt",
                do="ask for generated answers with this checkpoint, or give it another chat template",
            )
        stops = [i + 1 for i, token in enumerate(whole[len(prompt) :]) if token in self.stop_ids()]
        end = len(prompt) + stops[0] if stops else len(whole)
        return self._encoded(whole[:end], len(prompt))

    def stop_ids(self) -> list[int]:
        """Return the ids at which generation stops."""
        return self.stop_token_ids

    def _turn(self, role: str, text: str, images: int) -> dict[str, Any]:
        refuse_control_tokens(self.tokenizer, text)
        return {"role": role, "content": [{"type": "image"}] * images + [{"type": "text", "text": text}]}

    def _ids(self, turns: list[dict[str, Any]], *, prompt: bool) -> list[int]:
        text = self.apply_chat_template(turns, add_generation_prompt=prompt, tokenize=False)
        ids: list[int] = self.tokenizer(text.replace(IMAGE_TOKEN, IMAGE_TOKEN * self.image_tokens))[
            "input_ids"
        ]
        return ids

    def _encoded(self, ids: list[int], prompt: int) -> Encoded:
        labels = [IGNORE] * prompt + ids[prompt:]
        return Encoded(ids, labels, [token == self.image_token_id for token in ids])
