"""The reference, as a backend. It takes everything."""

from __future__ import annotations

import torch
from torch import Tensor

from facemllm.ops import reference
from facemllm.ops.backends import Inputs
from facemllm.ops.parts import Part, make_plan
from facemllm.ops.split import merge_rows, split_attention


def unavailable_reasons() -> list[str]:
    """Return nothing: plain torch runs everywhere."""
    return []


def not_supported_reasons(inputs: Inputs) -> list[str]:
    """Return nothing: every input is supported."""
    return []


def run(inputs: Inputs) -> tuple[Tensor, Tensor | None]:
    """Compute the reference, masks of several blocks in parts as other backends do."""
    q, k, v = inputs.q, inputs.k, inputs.v
    plan = make_plan(inputs.mask, q.shape[-2], k.shape[-2], q.device)
    whole = plan is None or all(part.is_all_of(q.shape[-2], k.shape[-2]) for part in plan.parts)
    # Dropout is drawn over all weights at once, so it needs them all at once.
    if plan is None or whole or inputs.dropout:
        allowed = inputs.allowed()
        return reference.partial_attention(q, k, v, allowed, scale=inputs.scale, dropout=inputs.dropout)
    return split_attention(q, k, v, plan, EagerKernel(), inputs.scale)


class EagerKernel:
    """A part in plain torch, of any dtype; see :class:`facemllm.ops.split.Kernel`."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, part: Part, allowed: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        """Compute the reference."""
        return reference.partial_attention(q, k, v, _visible(q, k, part, allowed), scale=scale)

    def backward(
        self,
        grad: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        out: Tensor,
        lse: Tensor,
        part: Part,
        allowed: Tensor | None,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the gradients from weights made again from the log-sum-exp."""
        dtype, wide, groups = q.dtype, lse.dtype, k.shape[1]
        visible = _visible(q, k, part, allowed)
        q, grad, out, lse = (x.unflatten(1, (groups, -1)) for x in (q, grad, out, lse))
        k, v = k[:, :, None], v[:, :, None]
        # In the very steps of the reference, or large scores would not fit their log-sum-exp.
        scores = ((q * scale) @ k.mT).to(wide)  # [B, G, H / G, Q, K]
        q, k, v, grad, out = (x.to(wide) for x in (q, k, v, grad, out))
        if visible is not None:
            scores = scores.masked_fill(~visible[..., None, :, :], float("-inf"))
        weights = torch.exp(scores - lse[..., None])
        of_weights = grad @ v.mT - (grad * out).sum(-1, keepdim=True)
        of_scores = weights * of_weights * scale
        dq = (of_scores @ k).flatten(1, 2)
        dk, dv = (of_scores.mT @ q).sum(2), (weights.mT @ grad).sum(2)
        return dq.to(dtype), dk.to(dtype), dv.to(dtype)

    merge = staticmethod(merge_rows)


def _visible(q: Tensor, k: Tensor, part: Part, allowed: Tensor | None) -> Tensor | None:
    if not part.causal:
        return allowed
    causal = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    return causal if allowed is None else allowed & causal
