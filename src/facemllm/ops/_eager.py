"""The reference, as a backend. It takes everything."""

from __future__ import annotations

from torch import Tensor

from facemllm.ops import reference
from facemllm.ops.backends import Inputs


def unavailable_reasons() -> list[str]:
    """Return nothing: plain torch runs everywhere."""
    return []


def not_supported_reasons(inputs: Inputs) -> list[str]:
    """Return nothing: every input is supported."""
    return []


def run(inputs: Inputs) -> tuple[Tensor, Tensor | None]:
    """Compute the reference."""
    return reference.partial_attention(
        inputs.q, inputs.k, inputs.v, inputs.allowed(), scale=inputs.scale, dropout=inputs.dropout
    )
