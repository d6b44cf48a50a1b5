"""A model behind an OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, or a commercial one."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from facemllm.core.errors import ConfigError, FaceMLLMError, MissingExtraError

LONGEST_SIDE = 1024


class EndpointModel:
    """Asks one question a request; the picture travels as JPEG inside it.

    A request that fails is tried again by the client, with growing waits and as ``Retry-After`` says; what
    then still fails raises, so that a run stops rather than counting the outage as the model's answers. What
    was answered before is kept by the evaluator, and the run goes on from there.

    Args:
        url: Base address, such as ``http://localhost:8000/v1``.
        model: Name the endpoint knows the model by.
        api_key: By default that of the environment variable ``OPENAI_API_KEY``; it is never written anywhere.
        max_tokens: Longest answer.
        workers: Requests at once.
        retries: How often a request is tried again.
        timeout: Seconds for one request.
        instruction: Said before every question.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        max_tokens: int = 256,
        workers: int = 8,
        retries: int = 5,
        timeout: float = 120.0,
        instruction: str = "",
    ) -> None:
        try:
            import openai
        except ModuleNotFoundError:
            raise MissingExtraError("openai", extra="endpoint", needed_for="asking an endpoint") from None
        self._failure = openai.OpenAIError
        self.host = urlsplit(url).netloc.rpartition("@")[2]  # an address may hold a password
        self.model, self.max_tokens, self.workers, self.instruction = model, max_tokens, workers, instruction
        key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
        self.client = openai.OpenAI(base_url=url, api_key=key, max_retries=retries, timeout=timeout)
        self.fingerprint = f"endpoint {url} {model} {max_tokens} {instruction}"

    @classmethod
    def from_spec(cls, spec: str) -> EndpointModel:
        """Return a model from ``MODEL@URL``.

        Raises:
            ConfigError: If it is not of that form.
        """
        model, at, url = spec.rpartition("@")
        if not at or not model or not url.startswith(("http://", "https://")):
            raise ConfigError(
                "cannot tell model and address apart",
                given=f"openai:{spec}",
                expected="openai:MODEL@URL, such as openai:qwen@http://localhost:8000/v1",
                do="correct it",
            )
        return cls(url, model)

    def ask(self, image: Sequence[Any], questions: Sequence[str]) -> list[list[str]]:
        """Ask every question about every picture.

        Raises:
            FaceMLLMError: If the endpoint cannot be reached, or refuses to answer.
        """
        pictures = [_data_url(picture) for picture in image]
        pairs = [(picture, question) for picture in pictures for question in questions]
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                answers = list(pool.map(lambda pair: self._one(*pair), pairs))
            except self._failure as error:
                pool.shutdown(wait=False, cancel_futures=True)  # the others would wait as long, one by one
                raise self._refused(error) from None
        return [answers[i : i + len(questions)] for i in range(0, len(answers), len(questions))]

    def _one(self, picture: str, question: str) -> str:
        text = f"{self.instruction}\n{question}" if self.instruction else question
        content: Any = [
            {"type": "image_url", "image_url": {"url": picture}},
            {"type": "text", "text": text},
        ]
        reply = self.client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": content}],
            max_tokens=self.max_tokens,
            temperature=0.0,
            seed=0,
        )
        message = reply.choices[0].message
        return message.content or getattr(message, "refusal", None) or ""

    def _refused(self, error: Any) -> FaceMLLMError:
        """Turn an error of the client into one of ours."""
        status = getattr(error, "status_code", None)
        reason = f"http {status}" if status else type(error.__cause__ or error).__name__
        said = str(getattr(error, "message", error)).partition("\n")[0][:300]
        return FaceMLLMError(
            "the endpoint refuses to answer" if status else "the endpoint cannot be reached",
            given=f"{reason} from {self.host} for the model {self.model!r}: {said}",
            expected="an address, a key and a model that the server accepts",
            do="check openai:MODEL@URL (mostly ending in /v1), the key in OPENAI_API_KEY and that the server "
            "runs; then repeat: with the same --out, answers of finished batches are kept",
        )


def _data_url(picture: Any) -> str:
    picture = picture.convert("RGB")
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
