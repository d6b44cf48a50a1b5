"""Any image-text-to-text model of transformers, asked through its own processor and chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from facemllm.evaluation.store import fingerprint


class ChatModel:
    """Asks one question about one picture at a time, as the model's card would have it.

    Args:
        model: A transformers model with ``generate``.
        processor: Its processor, with a chat template.
        max_new_tokens: Longest answer.
    """

    def __init__(self, model: Any, processor: Any, *, max_new_tokens: int = 64) -> None:
        self.model, self.processor, self.max_new_tokens = model.eval(), processor, max_new_tokens

    @classmethod
    def from_pretrained(cls, name: str, **options: Any) -> ChatModel:
        """Load a model by hub id or folder; no code of a checkpoint is run.

        Args:
            name: Hub id or folder.
            options: Passed to the model's ``from_pretrained``.
        """
        from transformers import AutoModelForImageTextToText, AutoProcessor

        device = "cuda" if torch.cuda.is_available() else "cpu"
        model: Any = AutoModelForImageTextToText.from_pretrained(name, **options)
        return cls(model.to(device), AutoProcessor.from_pretrained(name))

    def fingerprint(self) -> str:
        """Return what identifies the answers: the weights, and how long an answer may be."""
        return fingerprint(self.model, max_new_tokens=self.max_new_tokens)

    @torch.inference_mode()
    def ask(self, image: Sequence[Any], questions: Sequence[str]) -> list[list[str]]:
        """Ask every question about every picture, greedily."""
        return [[self._one(picture, question) for question in questions] for picture in image]

    def _one(self, picture: Any, question: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        inputs = self.processor(images=picture.convert("RGB"), text=prompt, return_tensors="pt")
        inputs = {key: value.to(self.model.device) for key, value in inputs.items()}
        output = self.model.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False)
        new = output[0, inputs["input_ids"].shape[1] :]
        return str(self.processor.tokenizer.decode(new, skip_special_tokens=True)).strip()
