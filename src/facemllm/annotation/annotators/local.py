"""A model in this process: a FaceMLLM, or any image-text-to-text model of transformers."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping
from typing import Any

from PIL import Image

from facemllm.annotation.annotators.base import ANNOTATORS, Question, Reply
from facemllm.annotation.answer import NOT_VISIBLE
from facemllm.annotation.prompt import EXTRA_LABELS
from facemllm.core.errors import ConfigError, FaceMLLMError
from facemllm.data import canonical_question

_DEFAULTS: dict[str, Any] = {"max_new_tokens": 1200, "do_sample": False}


@ANNOTATORS.register("local")
class LocalAnnotator:
    """Runs a model here, one picture at a time, in a thread, so that reading and cropping go on meanwhile.

    A FaceMLLM is asked one short question for each attribute, all in one pass over the picture, and for a
    description; what it does not know is "not visible". Any other model gets the prompt and must write JSON.

    Args:
        model: Built-in name, folder or hub id; or an instance of a FaceMLLM, or of a transformers model
            together with ``processor``.
        processor: Of a transformers model; None loads the one beside the model.
        device: Where it runs; None chooses.
        parameters: Of generation, for transformers models.

    Raises:
        CheckpointError: If the model cannot be loaded.
    """

    name = "local"
    untimed = True  # pictures wait for their turn here, and a thread cannot be cut off
    endpoint: str | None = None

    def __init__(
        self,
        *,
        model: Any,
        processor: Any = None,
        device: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self._model, self._processor = (model, processor) if not isinstance(model, str) else _load(model)
        self.model = model if isinstance(model, str) else type(model).__name__
        if device is not None:
            self._model.to(device)
        self._asks = hasattr(self._model, "ask") and hasattr(self._model, "describe")
        if not self._asks and self._processor is None:
            raise ConfigError(
                "a model has no processor",
                given=self.model,
                expected="a FaceMLLM, or a transformers model and its processor",
                do="pass processor=",
            )
        merged = {} if self._asks else {**_DEFAULTS, **(parameters or {})}
        self.parameters = {name: value for name, value in merged.items() if value is not None}
        self._turn: asyncio.Lock | None = None

    async def __call__(self, question: Question, *, key: str) -> Reply:
        """Answer a question, when it is its turn."""
        if self._turn is None:
            self._turn = asyncio.Lock()
        async with self._turn:
            return await asyncio.to_thread(self._ask if self._asks else self._write, question)

    async def close(self) -> None:
        """Nothing is held open."""

    def _ask(self, question: Question) -> Reply:
        """Ask a FaceMLLM, question by question."""
        crop = Image.open(io.BytesIO(question.jpeg)).convert("RGB")
        names = question.prompt.attributes
        labels = question.prompt.include
        asked = [canonical_question("attributes", name) for name in names]
        asked += [canonical_question(label) for label in labels]
        answers = self._model.ask(crop, asked, crop="none") if asked else []
        said = [_yes_or_no(answer.text) if answer.known else NOT_VISIBLE for answer in answers[: len(names)]]
        extra = {
            label: answer.text if answer.text in EXTRA_LABELS[label] else NOT_VISIBLE
            for label, answer in zip(labels, answers[len(names) :], strict=True)
        }
        caption = self._model.describe(crop, crop="none").text
        text = json.dumps({"caption": caption, "attributes": dict(zip(names, said, strict=True)), **extra})
        return Reply(text, served=self.model)

    def _write(self, question: Question) -> Reply:
        """Have a transformers model write the answer."""
        import torch

        processor, prompt = self._processor, question.prompt
        text = f"{prompt.user}\n\nThe JSON schema:\n{json.dumps(prompt.schema)}"
        picture = Image.open(io.BytesIO(question.jpeg)).convert("RGB")
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": [{"type": "text", "text": prompt.system}]},
            {
                "role": "user",
                "content": [{"type": "image", "image": picture}, {"type": "text", "text": text}],
            },
        ]
        for said, wrong in question.turns:
            messages += [
                {"role": "assistant", "content": [{"type": "text", "text": said}]},
                {"role": "user", "content": [{"type": "text", "text": wrong}]},
            ]
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ).to(self._model.device)
        with torch.inference_mode():
            written = self._model.generate(**inputs, **self.parameters)
        read = int(inputs["input_ids"].shape[1])
        new = written[0, read:]
        most = self.parameters.get("max_new_tokens")
        return Reply(
            processor.decode(new, skip_special_tokens=True),
            finish="length" if most is not None and len(new) >= most else "stop",
            tokens_in=read,
            tokens_out=len(new),
            served=self.model,
        )


def _yes_or_no(text: str) -> str:
    said = text.strip().lower()
    return "yes" if said.startswith("yes") else "no" if said.startswith("no") else NOT_VISIBLE


def _load(name: str) -> tuple[Any, Any]:
    """Load a FaceMLLM, or else a transformers model with its processor; never code from its folder."""
    from facemllm.core.hub import check_model_name

    check_model_name(name)
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    from facemllm.model import AutoFaceMLLM, FaceMLLMConfig

    if name in AutoFaceMLLM.built_in():
        return AutoFaceMLLM.from_pretrained(name), None
    try:
        if AutoConfig.from_pretrained(name).model_type == FaceMLLMConfig.model_type:
            return AutoFaceMLLM.from_pretrained(name), None
        return AutoModelForImageTextToText.from_pretrained(name), AutoProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        if isinstance(error, FaceMLLMError):
            raise
        raise ConfigError(
            "cannot load a local annotator",
            given=f"{name} ({str(error).splitlines()[0][:200]})",
            expected="a FaceMLLM, or an image-text-to-text model of transformers",
            do="check the name, and that the hub can be reached",
        ) from None
