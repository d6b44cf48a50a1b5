"""What can be measured beside a FaceMLLM, by name: constants, endpoints, transformers models, plug-ins."""

from __future__ import annotations

from pathlib import Path

from facemllm.core.registry import Registry
from facemllm.evaluation.asking import Askable, load_model

EVALUATED: Registry[Askable] = Registry("evaluated_model")
"""Factories of models to measure; packages add theirs under the entry point ``facemllm.evaluated_models``."""


def resolve_model(model: str | Path | Askable) -> Askable:
    """Return a model to measure.

    Args:
        model: ``majority`` and ``median`` (constants), ``openai:MODEL@URL`` (an OpenAI-compatible endpoint),
            ``transformers:ID`` (any image-text-to-text model), a registered name, a name or folder for
            ``AutoFaceMLLM``, or an object with ``ask``.

    Raises:
        ConfigError: If it cannot be asked.

    Example:
        >>> resolve_model("majority").ask
        <bound method Constant.ask of Constant('majority')>
    """
    kind = kind_of(model) if isinstance(model, str) else None
    if not isinstance(model, str) or kind is None:
        return load_model(model)
    _, colon, rest = model.partition(":")
    return EVALUATED.create(kind, spec=rest) if colon else EVALUATED.create(kind)


def kind_of(name: str) -> str | None:
    """Return the registered name that a name begins with, or None for a FaceMLLM's.

    Example:
        >>> kind_of("openai:qwen@http://localhost:8000/v1"), kind_of("facemllm-tiny")
        ('openai', None)
    """
    kind = name.partition(":")[0]
    return kind if kind in EVALUATED.names() and not Path(name).exists() else None


@EVALUATED.register("majority")
def _majority() -> Askable:
    from facemllm.evaluation.baselines import Constant

    return Constant("majority")


@EVALUATED.register("median")
def _median() -> Askable:
    from facemllm.evaluation.baselines import Constant

    return Constant("median")


@EVALUATED.register("openai")
def _endpoint(spec: str) -> Askable:
    from facemllm.evaluation.endpoint import EndpointModel

    return EndpointModel.from_spec(spec)


@EVALUATED.register("transformers")
def _transformers(spec: str) -> Askable:
    from facemllm.evaluation.chat_model import ChatModel

    return ChatModel.from_pretrained(spec)
