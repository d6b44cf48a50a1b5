"""Our attention inside transformers models: ``attn_implementation="facemllm"``.

A transformers model looks its attention up by name at each call. Registered under ours, it runs on
:func:`facemllm.ops.attention.attention`, and a forward pass may hand a *pack* down to all of its layers: an
object that knows how the tokens of the pass hang together (:mod:`facemllm.model.passes`). Layers hand keyword
arguments that they do not know on to their attention, which is how it gets there.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from facemllm.core.errors import ConfigError
from facemllm.ops import Causal, Explicit, attention

NAME = "facemllm"


class Pack(Protocol):
    """Attention over the tokens of one forward pass, layer by layer."""

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float | None, dropout: float
    ) -> Tensor:
        """Map queries [B, H, L, D] and keys and values [B, G, L, D] of a layer to its output [B, H, L, D]."""


def register_attention() -> None:
    """Make ``attn_implementation="facemllm"`` known to transformers; again is no matter."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attention_forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def attention_forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    pack: Pack | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Compute a layer's attention as transformers calls it; returns the output [B, L, H, D] and no weights.

    Raises:
        ConfigError: If a model asks for what our attention does not compute: it is never left out silently.
    """
    for name in ("softcap", "s_aux", "position_bias", "head_mask", "cache"):
        if options.get(name) is not None:
            raise ConfigError(
                "attention cannot honour an argument of this model",
                given=f"{name} in {type(module).__name__}",
                expected="plain scaled dot-product attention",
                do='load the language model with attn_implementation="eager"',
            )
    if query.dtype != value.dtype:  # under autocast, rotation turns queries and keys back to single precision
        query, key = query.to(value.dtype), key.to(value.dtype)
    if pack is not None:
        out = pack.attend(module.layer_idx, query, key, value, scale=scaling, dropout=dropout)
    elif attention_mask is not None:
        out = attention(query, key, value, Explicit(attention_mask), scale=scaling, dropout=dropout)
    else:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        mask = Causal() if causal and query.shape[2] > 1 else None
        out = attention(query, key, value, mask, scale=scaling, dropout=dropout)
    return out.transpose(1, 2).contiguous(), None


def use_our_attention(model: Any) -> list[str]:
    """Switch a causal LM to our attention and return the reasons why it cannot be; none if it was.

    Example:
        >>> from facemllm.language import tiny_language_model
        >>> llm = tiny_language_model(["a"], hidden_size=32, layers=1, heads=2, vocab_size=512)
        >>> use_our_attention(llm.model), llm.model.config._attn_implementation
        ([], 'facemllm')
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    reasons = attention_reasons(base)
    if not reasons:
        register_attention()
        base.set_attn_implementation(NAME)
    return reasons


def attention_reasons(model: Any) -> list[str]:
    """Return why a causal LM cannot run on our attention."""
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    reasons = []
    if not getattr(model, "_supports_attention_backend", False):
        reasons.append(f"{type(model).__name__} does not take its attention from transformers' interface")
    if getattr(config, "attn_logit_softcapping", None):
        reasons.append("its attention scores are capped")
    if getattr(config, "sliding_window", None):
        reasons.append("its attention has a sliding window")
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        reasons.append("some layers are not full attention")
    return reasons


def marker(like: Tensor) -> Tensor:
    """Return a mask of four axes that says nothing: given one, transformers builds none of its own."""
    return torch.empty(1, 1, 1, 1, dtype=torch.bool, device=like.device)
