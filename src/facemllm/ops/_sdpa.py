"""torch's fused attention: scaled_dot_product_attention, and the kernels under it where parts are merged."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from facemllm.ops.backends import Inputs
from facemllm.ops.masks import Both, Causal, Full
from facemllm.ops.parts import Part, make_plan
from facemllm.ops.split import Kernel, merge_rows, same_width, split_attention

_DTYPES = {
    "cpu": (torch.float64, torch.float32, torch.bfloat16, torch.float16),
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
}


def unavailable_reasons() -> list[str]:
    """Return nothing: it is part of torch."""
    return []


def not_supported_reasons(inputs: Inputs) -> list[str]:
    """Return why these inputs cannot be computed."""
    reasons = []
    if 0 in (*inputs.q.shape, *inputs.k.shape, *inputs.v.shape):
        reasons.append("a tensor is empty")
    if _is_plain(inputs):
        return reasons
    if inputs.dropout:
        reasons.append("attention in parts has no dropout")
    device = inputs.q.device.type
    if inputs.q.dtype not in _DTYPES.get(device, ()):
        reasons.append(f"there is no kernel that gives out the log-sum-exp of {inputs.q.dtype} on {device}")
    mask = inputs.mask
    if (
        isinstance(mask, Both)
        and make_plan(mask, inputs.q.shape[-2], inputs.k.shape[-2], inputs.q.device) is None
    ):
        reasons.append("mask Both does not fall into blocks")
    return reasons


def run(inputs: Inputs) -> tuple[Tensor, Tensor | None]:
    """Compute attention."""
    q, k, v = inputs.q, inputs.k, inputs.v
    if _is_plain(inputs):
        out = scaled_dot_product_attention(
            q,
            k,
            v,
            dropout_p=inputs.dropout,
            is_causal=isinstance(inputs.mask, Causal),
            scale=inputs.scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        return out, None
    plan = make_plan(inputs.mask, q.shape[-2], k.shape[-2], q.device)
    assert plan is not None
    kernel: Kernel = CPUKernel() if q.device.type == "cpu" else CUDAKernel()
    return split_attention(q, k, v, plan, kernel, inputs.scale)


def _is_plain(inputs: Inputs) -> bool:
    # Its is_causal counts from the first key, ours from the last: they agree on squares only.
    square = inputs.q.shape[-2] == inputs.k.shape[-2]
    simple = isinstance(inputs.mask, (type(None), Full)) or (isinstance(inputs.mask, Causal) and square)
    return simple and not inputs.needs_lse


class CPUKernel:
    """A part by torch's flash attention for the CPU; see :class:`facemllm.ops.split.Kernel`.

    It takes fewer heads of keys than of queries, any strides with the last of 1, and a causal mask together
    with one added to the scores, of the dtype of the queries. It gives zeros for a query without keys.
    """

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, part: Part, allowed: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        """Call the kernel."""
        width = v.shape[-1]
        q, k, v = same_width(q, k, v)
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, part.causal, attn_mask=_added(allowed, q), scale=scale
        )
        return out[..., :width], _without_keys(lse, part, allowed)

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
        """Call the kernel's backward."""
        widths = q.shape[-1], k.shape[-1], v.shape[-1]
        q, k, v, out, grad = same_width(q, k, v, out, grad)
        grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, lse, 0.0, part.causal, attn_mask=_added(allowed, q), scale=scale
        )
        dq, dk, dv = (x[..., :width] for x, width in zip(grads, widths, strict=True))
        return dq, dk, dv

    merge = staticmethod(merge_rows)


class CUDAKernel:
    """A part by torch's memory-efficient attention for CUDA; see :class:`facemllm.ops.split.Kernel`.

    Its layout is [B, L, H, D]. It wants as many heads of keys as of queries, and widths that are a multiple
    of 8. Its log-sum-exp is padded to a multiple of 32 queries, with plus infinity in backward.
    """

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, part: Part, allowed: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        """Call the kernel."""
        width, queries = v.shape[-1], q.shape[-2]
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        q, k, v = same_width(q, k, v, multiple=8)
        out, lse, *_ = torch.ops.aten._efficient_attention_forward(
            *(x.transpose(1, 2) for x in (q, k, v)),
            bias=_full_bias(allowed, q, k),
            cu_seqlens_q=None,
            cu_seqlens_k=None,
            max_seqlen_q=None,
            max_seqlen_k=None,
            dropout_p=0.0,
            custom_mask_type=int(part.causal),  # from the first query and key
            compute_log_sumexp=True,
            scale=scale,
        )
        lse = _without_keys(lse[..., :queries], part, allowed)
        out = out.transpose(1, 2)[..., :width]
        return out.masked_fill((lse == float("-inf"))[..., None], 0), lse

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
        """Call the kernel's backward."""
        widths, groups = (q.shape[-1], k.shape[-1], v.shape[-1]), k.shape[1]
        k, v = (x.repeat_interleave(q.shape[1] // groups, dim=1) for x in (k, v))
        q, k, v, out, grad = same_width(q, k, v, out, grad, multiple=8)
        none = torch.empty(0, dtype=torch.long)  # of the random state of the dropout there is not
        grads = torch.ops.aten._efficient_attention_backward(
            *(x.transpose(1, 2) for x in (grad, q, k, v)),
            bias=_full_bias(allowed, q, k),
            out=out.transpose(1, 2),
            cu_seqlens_q=None,
            cu_seqlens_k=None,
            max_seqlen_q=q.shape[-2],
            max_seqlen_k=k.shape[-2],
            logsumexp=pad(lse, (0, -lse.shape[-1] % 32), value=float("inf")).contiguous(),
            dropout_p=0.0,
            philox_seed=none,
            philox_offset=none,
            custom_mask_type=int(part.causal),
            bias_requires_grad=False,
            scale=scale,
        )
        dq, dk, dv = (x.transpose(1, 2) for x in grads[:3])
        dk, dv = (x.unflatten(1, (groups, -1)).sum(2) for x in (dk, dv))
        dq, dk, dv = (x[..., :width] for x, width in zip((dq, dk, dv), widths, strict=True))
        return dq, dk, dv

    merge = staticmethod(merge_rows)


def _added(allowed: Tensor | None, q: Tensor) -> Tensor | None:
    if allowed is None:
        return None
    return torch.zeros(allowed.shape, dtype=q.dtype, device=q.device).masked_fill_(~allowed, float("-inf"))


def _full_bias(allowed: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    added = _added(allowed, q)
    if added is None:
        return None
    keys = k.shape[-2]
    added = pad(added, (0, -keys % 16))  # rows must start at multiples of 16 bytes
    return added[..., :keys].expand(q.shape[0], q.shape[1], q.shape[2], keys)


def _without_keys(lse: Tensor, part: Part, allowed: Tensor | None) -> Tensor:
    """Give queries that see no key a log-sum-exp of minus infinity, where kernels have no rule."""
    if allowed is None:
        return lse
    # Only keys that are kept for all queries are left out of a causal part.
    seen = allowed[..., 0, :].cumsum(-1) > 0 if part.causal else allowed.any(-1)
    return lse.masked_fill(~seen, float("-inf"))
