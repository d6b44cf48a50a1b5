"""Attention in parts: each part is computed by a kernel, and the parts are merged by their log-sum-exp.

The gradients need no merging. The weight of key j for query i over all keys is ``exp(s_ij - lse_i)`` with
the merged log-sum-exp, in whichever part j lies, and the gradient of a score is that weight times
``d_out_i . v_j - d_out_i . out_i`` with the merged output. A kernel's own backward computes just that from
the output and log-sum-exp it is given. So giving it the merged ones, part by part, yields exact gradients:
that of a query, key or value is the sum over the parts it is in.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from facemllm.ops.parts import Part, Plan

INFINITY = float("inf")


class Kernel(Protocol):
    """Attention of one part, forward and backward.

    Tensors are those of the part, with B * n for B; ``allowed`` is True where a query may see a key,
    [B or 1, 1, Q or 1, K], or none. There is at least one query and one key.
    """

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, part: Part, allowed: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        """Return the output, and the log-sum-exp [B, H, Q], minus infinity for a query without keys."""

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
        """Return the gradients of q, k and v.

        The log-sum-exp is plus infinity for a query all of whose weights are to be zero.
        """

    def merge(self, out: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> tuple[Tensor, Tensor]:
        """Return the merger of two outputs [B, R, H, Dv] and their log-sum-exps [B, R, H]."""


def split_attention(
    q: Tensor, k: Tensor, v: Tensor, plan: Plan, kernel: Kernel, scale: float | None
) -> tuple[Tensor, Tensor]:
    """Return attention by a plan, and its log-sum-exp, both with gradients.

    Args:
        q: Queries [B, H, Q, D].
        k: Keys [B, G, K, D].
        v: Values [B, G, K, Dv].
        plan: The parts.
        kernel: What computes a part.
        scale: ``D ** -0.5`` if left out.

    Returns:
        Output [B, H, Q, Dv], zero for a query without keys, and log-sum-exp [B, H, Q].
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
        out, lse = _Split.apply(q, k, v, plan, kernel, scale)
        return out, lse
    return _forward(q, k, v, plan, kernel, scale)


def merge_rows(out: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Merge in plain torch; see ``Kernel.merge``."""
    total = torch.logaddexp(lse, other_lse)
    finite = total.masked_fill(total == -INFINITY, 0)
    merged = out * (lse - finite).exp()[..., None] + other * (other_lse - finite).exp()[..., None]
    return merged.to(out.dtype), total


def same_width(*tensors: Tensor, multiple: int = 1) -> list[Tensor]:
    """Add columns of zeros until heads are of one width; they change neither scores nor the other columns."""
    width = max(x.shape[-1] for x in tensors)
    width += -width % multiple
    padded = (x if x.shape[-1] == width else pad(x, (0, width - x.shape[-1])) for x in tensors)
    return [x if x.stride(-1) == 1 else x.contiguous() for x in padded]


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: Plan, kernel: Kernel, scale: float
    ) -> tuple[Tensor, Tensor]:
        ctx.plan, ctx.kernel, ctx.scale = plan, kernel, scale
        ctx.set_materialize_grads(False)
        out, lse = _forward(q, k, v, plan, kernel, scale)
        ctx.save_for_backward(q, k, v, out, lse)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, lse_grad: Tensor | None) -> Any:
        q, k, v, out, lse = ctx.saved_tensors
        grad = torch.zeros_like(out) if grad is None else grad
        none = lse == -INFINITY
        width = v.shape[-1]
        if lse_grad is not None:
            # d lse / d s_ij is the weight of j: as if values had one more column, of ones, whose output has
            # this gradient, except that it is left out of d_out . out.
            lse_grad = lse_grad.masked_fill(none, 0).to(out.dtype)[..., None]
            zero, one = torch.zeros_like(lse_grad), torch.ones_like(v[..., :1])
            grad, out = torch.cat([grad, lse_grad], -1), torch.cat([out, zero], -1)
            v = torch.cat([v, one], -1)
        lse = lse.masked_fill(none, INFINITY)

        def of(part: Part) -> tuple[Tensor, Tensor, Tensor]:
            rows, cols = part.queries, part.keys
            part_lse, padding = rows.take(lse), rows.padding()
            if padding is not None:
                # The weights of a query that is not there are zero.
                part_lse = part_lse.masked_fill(padding.repeat(q.shape[0], 1)[:, None], INFINITY)
            inputs = rows.take(grad), rows.take(q), cols.take(k), cols.take(v), rows.take(out), part_lse
            found: tuple[Tensor, Tensor, Tensor] = ctx.kernel.backward(
                *inputs, part, _allowed(part, ctx.plan, q.shape[0]), ctx.scale
            )
            return found

        parts = ctx.plan.parts
        if len(parts) == 1 and parts[0].is_all_of(q.shape[2], k.shape[2]):
            dq, dk, dv = of(parts[0])
        else:
            sums = [x.new_zeros(x.shape[0], x.shape[2], x.shape[1], x.shape[3]) for x in (q, k, v)]
            for part in parts:
                where = part.queries, part.keys, part.keys
                for total, of_part, rows in zip(sums, of(part), where, strict=True):
                    rows.add(total, of_part)
            dq, dk, dv = (total.transpose(1, 2) for total in sums)
        return dq, dk, dv[..., :width], None, None, None


def _forward(
    q: Tensor, k: Tensor, v: Tensor, plan: Plan, kernel: Kernel, scale: float
) -> tuple[Tensor, Tensor]:
    batch, heads, length = q.shape[:3]
    if len(plan.parts) == 1 and plan.parts[0].queries.is_all_of(length):
        part = plan.parts[0]
        return kernel.forward(
            q, part.keys.take(k), part.keys.take(v), part, _allowed(part, plan, batch), scale
        )
    out = q.new_zeros(batch, length, heads, v.shape[-1])
    wide = torch.promote_types(q.dtype, torch.float32)
    lse = q.new_full((batch, length, heads), -INFINITY, dtype=wide)
    for part in plan.parts:
        inputs = part.queries.take(q), part.keys.take(k), part.keys.take(v)
        found = kernel.forward(*inputs, part, _allowed(part, plan, batch), scale)
        part_out, part_lse = map(part.queries.back, found)
        where = part.queries.where
        if not part.first:
            part_out, part_lse = kernel.merge(out[:, where], lse[:, where], part_out, part_lse)
        out[:, where], lse[:, where] = part_out, part_lse
    return out.transpose(1, 2), lse.transpose(1, 2)


def _allowed(part: Part, plan: Plan, batch: int) -> Tensor | None:
    """Return what a part may see: its own mask, and the keys kept of each item."""
    allowed = part.allowed
    if allowed is not None and part.queries.index.shape[0] > 1:
        allowed = allowed.repeat(batch, 1, 1, 1)
    if plan.keep is None:
        return allowed
    keep = part.keys.take(plan.keep.expand(batch, -1)[:, None])[:, :, None]  # [B * n, 1, 1, K]
    return keep if allowed is None else allowed & keep
