"""torch.nn.functional.scaled_dot_product_attention: fused kernels on most devices, and in torch itself."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from facemllm.ops.backends import Inputs
from facemllm.ops.masks import Causal


def unavailable_reasons() -> list[str]:
    """Return nothing: it is part of torch."""
    return []


def not_supported_reasons(inputs: Inputs) -> list[str]:
    """Return why these inputs cannot be computed."""
    reasons = []
    if inputs.needs_lse:
        reasons.append("it does not give out the log-sum-exp")
    if inputs.k.shape[-2] == 0:
        reasons.append("there are no keys")
    return reasons


def run(inputs: Inputs) -> tuple[Tensor, Tensor | None]:
    """Compute attention."""
    q, k, v = inputs.q, inputs.k, inputs.v
    # Its is_causal counts from the first key, ours from the last: they agree on squares only.
    causal = isinstance(inputs.mask, Causal) and q.shape[-2] == k.shape[-2]
    allowed = None if causal else inputs.allowed()
    out = scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=allowed,
        dropout_p=inputs.dropout,
        is_causal=causal,
        scale=inputs.scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    if allowed is not None:
        # Kernels differ on a query without keys (zeros, mean, not a number); ours is zeros.
        out = out.masked_fill(~allowed.any(-1, keepdim=True), 0)
    return out, None
