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
    if not isinstance(model, str):
        return load_model(model)
    kind, colon, rest = model.partition(":")
    if colon and kind in EVALUATED.names() and not Path(model).exists():
        return EVALUATED.create(kind, spec=rest)
    if not colon and model in EVALUATED.names() and not Path(model).exists():
        return EVALUATED.create(model)
    return load_model(model)


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
