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
    if plan is None or whole:
        allowed = inputs.allowed()
        return reference.partial_attention(q, k, v, allowed, scale=inputs.scale, dropout=inputs.dropout)
    return split_attention(q, k, v, plan, EagerKernel(inputs.dropout), inputs.scale)


class EagerKernel:
    """A part in plain torch, of any dtype; see :class:`facemllm.ops.split.Kernel`.

    Dropout leaves the log-sum-exp as it is, and so parts merge as without; what was dropped in a part is
    drawn again in backward.

    Args:
        dropout: Probability that a weight is set to zero.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        self.dropout = dropout
        self.seeds: dict[Part, int] = {}

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, part: Part, allowed: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        """Compute the reference."""
        visible = _visible(q, k, part, allowed)
        out, lse = reference.partial_attention(q, k, v, visible, scale=scale)
        if self.dropout:
            self.seeds[part] = int(torch.randint(2**62, ()))
            groups = k.shape[1]
            grouped_q, grouped_lse = q.unflatten(1, (groups, -1)), lse.unflatten(1, (groups, -1))
            weights = _weights(grouped_q, grouped_lse, k[:, :, None], visible, scale)
            weights = weights * self._kept(part, weights)
            out = (weights.to(v.dtype) @ v[:, :, None]).flatten(1, 2)
        return out, lse

    def _kept(self, part: Part, weights: Tensor) -> Tensor:
        """Return 0 for weights [B, G, H / G, Q, K] that are dropped, and by how much the others grow."""
        generator = torch.Generator(weights.device).manual_seed(self.seeds[part])
        drawn = torch.rand(weights.shape, generator=generator, device=weights.device)
        return (drawn >= self.dropout).to(weights.dtype) / (1 - self.dropout)

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
        weights = _weights(q, lse, k, visible, scale)
        q, k, v, grad, out = (x.to(wide) for x in (q, k, v, grad, out))
        of_weights, dropped = grad @ v.mT, weights
        if self.dropout:
            kept = self._kept(part, weights)
            of_weights, dropped = of_weights * kept, weights * kept
        of_scores = weights * (of_weights - (grad * out).sum(-1, keepdim=True)) * scale
        dq = (of_scores @ k).flatten(1, 2)
        dk, dv = (of_scores.mT @ q).sum(2), (dropped.mT @ grad).sum(2)
        return dq.to(dtype), dk.to(dtype), dv.to(dtype)

    merge = staticmethod(merge_rows)


def _weights(q: Tensor, lse: Tensor, k: Tensor, visible: Tensor | None, scale: float) -> Tensor:
    """Return the weights [B, G, H / G, Q, K] of this log-sum-exp; zero where it is infinite."""
    # In the very steps of the reference, or large scores would not fit their log-sum-exp.
    scores = ((q * scale) @ k.mT).to(lse.dtype)
    if visible is not None:
        scores = scores.masked_fill(~visible[..., None, :, :], float("-inf"))
    return torch.exp(scores - lse.masked_fill(lse == float("-inf"), float("inf"))[..., None])


def _visible(q: Tensor, k: Tensor, part: Part, allowed: Tensor | None) -> Tensor | None:
    if not part.causal:
        return allowed
    causal = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    return causal if allowed is None else allowed & causal
