"""Any OpenAI-compatible endpoint that reads pictures: vLLM, SGLang, llama.cpp, or a commercial one."""

from __future__ import annotations

import base64
import email.utils
import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from facemllm.annotation.annotators.base import ANNOTATORS, Busy, NoAnswer, Question, Reply, Unusable
from facemllm.core.errors import ConfigError, FaceMLLMError, MissingExtraError

STRUCTURED = ("json_schema", "json_object", "none")

_DEFAULTS: dict[str, Any] = {"temperature": 0, "max_tokens": 1200}
_RETRIED = frozenset({408, 409, 425, 429})
_FOR_ALL = frozenset({401, 403, 404, 405})


@ANNOTATORS.register("openai")
class OpenAIAnnotator:
    """Asks a server that speaks the chat completions protocol, with structured output.

    Args:
        model: Name of the model, as the server knows it.
        endpoint: Base address, such as ``http://localhost:8000/v1``.
        structured: "json_schema" sends the schema (vLLM, SGLang, llama.cpp and others hold the model to it);
            "json_object" asks for any JSON; "none" relies on the prompt, which then holds the schema.
        parameters: Of generation, over the defaults (temperature 0, at most 1,200 tokens); None takes one
            out.
        api_key_env: Environment variable that holds the key; servers of one's own mostly need none.
        timeout: Seconds for one reply.

    Raises:
        MissingExtraError: If the package ``openai`` is not installed.
        ConfigError: If the address is none, or ``structured`` is unknown.
    """

    name = "openai"
    endpoint: str | None

    def __init__(
        self,
        *,
        model: str,
        endpoint: str,
        structured: str = "json_schema",
        parameters: Mapping[str, Any] | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        timeout: float = 120.0,
    ) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                "an endpoint is not an address",
                given=repr(endpoint),
                expected="for example http://localhost:8000/v1",
                do="pass the base address of an OpenAI-compatible server",
            )
        if structured not in STRUCTURED:
            raise ConfigError(
                "unknown kind of structured output",
                given=repr(structured),
                expected=", ".join(STRUCTURED),
                do="choose one that the server knows",
            )
        try:
            import openai
        except ImportError:
            raise MissingExtraError("openai", extra="annotate", needed_for="the annotator openai") from None
        self.model, self.endpoint, self.structured = model, parts.hostname, structured
        merged = {**_DEFAULTS, **(parameters or {})}
        self.parameters = {name: value for name, value in merged.items() if value is not None}
        self._openai = openai
        self._client = openai.AsyncOpenAI(
            base_url=endpoint,
            api_key=os.environ.get(api_key_env) or "none",
            timeout=timeout,
            max_retries=0,  # the engine asks again itself, so that every request is in the ledger
        )

    async def __call__(self, question: Question, *, key: str) -> Reply:
        """Answer a question; ``key`` goes with it as ``Idempotency-Key``."""
        openai = self._openai
        try:
            reply = await self._client.chat.completions.create(
                model=self.model,
                messages=self._messages(question),
                extra_headers={"Idempotency-Key": key},
                extra_body={**self.parameters, **self._format(question)},
            )
            return _read(reply)
        except openai.APITimeoutError:
            raise NoAnswer("timeout") from None
        except openai.APIStatusError as error:
            raise self._refused(error) from None
        except openai.APIConnectionError as error:
            raise NoAnswer(f"connection lost ({type(error.__cause__ or error).__name__})") from None
        except (openai.APIError, ValueError, AttributeError, TypeError, IndexError):
            # A body that is no JSON, or no completion: the server answered, but with something broken.
            raise Busy("broken reply") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _messages(self, question: Question) -> Any:
        prompt = question.prompt
        text = prompt.user
        if self.structured == "none":
            import json

            text = f"{text}\n\nThe JSON schema:\n{json.dumps(prompt.schema)}"
        picture = f"data:image/jpeg;base64,{base64.b64encode(question.jpeg).decode()}"
        content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": picture}}]
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": content},
        ]
        for said, wrong in question.turns:
            messages += [{"role": "assistant", "content": said}, {"role": "user", "content": wrong}]
        return messages

    def _format(self, question: Question) -> dict[str, Any]:
        if self.structured == "none":
            return {}
        if self.structured == "json_object":
            return {"response_format": {"type": "json_object"}}
        schema = {"name": "face_annotation", "strict": True, "schema": question.prompt.schema}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}

    def _refused(self, error: Any) -> Exception:
        """Turn an answer with an error status into one of ours."""
        status, outcome = error.status_code, f"http {error.status_code}"
        if status in _RETRIED or status >= 500:
            return Busy(outcome, after=retry_after(error.response.headers))
        said = str(error.message)[:300]
        if status in _FOR_ALL:
            return FaceMLLMError(
                "the endpoint refuses to answer",
                given=f"{outcome} from {self.endpoint} for the model {self.model!r}: {said}",
                expected="an address, a key and a model that the server accepts",
                do="check --endpoint (mostly ending in /v1), --model, and the key's environment variable",
            )
        return Unusable(outcome, said)


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds that a server asks to wait, from ``Retry-After`` in seconds or as a date.

    Example:
        >>> retry_after({"retry-after": "2"}), retry_after({})
        (2.0, None)
        >>> retry_after({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, now=4.0)
        6.0
    """
    text = headers.get("retry-after")
    if text is None:
        return None
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None
    return max(when - (time.time() if now is None else now), 0.0)


def _read(reply: Any) -> Reply:
    choice, usage = reply.choices[0], reply.usage
    return Reply(
        text=choice.message.content,
        finish=choice.finish_reason or "stop",
        refusal=getattr(choice.message, "refusal", None),
        tokens_in=getattr(usage, "prompt_tokens", 0) or 0,
        tokens_out=getattr(usage, "completion_tokens", 0) or 0,
        served=reply.model,
    )
