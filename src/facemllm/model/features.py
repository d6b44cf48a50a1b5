"""A look at an encoder's features before the language model takes them for a face."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facemllm.core.errors import ConfigError


def checked_features(features: Tensor, encoder: Any, connector: Any) -> Tensor:
    """Return an encoder's features [V, N, D], if they are of use.

    Args:
        features: What the encoder made.
        encoder: Its maker, to be named.
        connector: That takes them, of the width ``in_dim``.

    Raises:
        ConfigError: If their shape is not what the connector takes, or there are NaNs or infinities among
            them.
    """
    width = getattr(connector, "in_dim", getattr(encoder, "embed_dim", None))
    name = type(encoder).__name__
    if features.ndim != 3 or width not in (None, features.shape[-1]):
        raise ConfigError(
            f"the features of {name} do not fit the connector",
            given=f"features of shape {tuple(features.shape)}",
            expected=f"(pictures, tokens, {width})",
            do="use the encoder that the connector was made for, or compose by FaceMLLM.from_parts; an "
            "encoder's embed_dim must be the width of what it returns",
        )
    if not bool(features.isfinite().all()):
        raise ConfigError(
            f"the features of {name} are of no use",
            given=f"NaN or infinite values in {features.dtype}",
            expected="finite numbers",
            do="check the encoder's weights; if they are in float16, load the model with dtype='float32'",
        )
    return features
