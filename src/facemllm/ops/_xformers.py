"""xFormers' memory-efficient attention on CUDA: sequences of different lengths end to end, no padding."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from facemllm.ops.backends import Inputs
from facemllm.ops.masks import Causal, Full, Padding
from facemllm.ops.parts import Part, make_plan
from facemllm.ops.split import same_width, split_attention


def unavailable_reasons() -> list[str]:
    """Return why it cannot run here."""
    reasons = []
    if not torch.cuda.is_available():
        reasons.append("there is no CUDA device")
    elif torch.cuda.get_device_capability() < (8, 0):
        reasons.append("the CUDA device is older than compute capability 8.0")
    if find_spec("xformers") is None:
        reasons.append("xformers is not installed (pip install 'facemllm[xformers]')")
    elif not reasons:
        try:
            import_module("xformers.ops")
        except (ImportError, OSError, RuntimeError) as error:  # built for another torch
            reasons.append(f"xformers cannot be imported: {error}")
    return reasons


def not_supported_reasons(inputs: Inputs) -> list[str]:
    """Return why these inputs cannot be computed."""
    q, k, v = inputs.q, inputs.k, inputs.v
    device = [] if q.device.type == "cuda" else [f"tensors are on {q.device.type}, not on cuda"]
    reasons = []
    if q.dtype not in (torch.float16, torch.bfloat16):
        reasons.append(f"dtype {q.dtype} is neither float16 nor bfloat16")
    if q.shape[-1] != v.shape[-1]:
        reasons.append("heads of keys and values differ in width")
    if q.shape[-1] % 8 or q.shape[-1] > 248:
        reasons.append("the width of a head is not a multiple of 8 up to 248")
    if 0 in (*q.shape, *k.shape):
        reasons.append("a tensor is empty")
    elif not (_is_plain(inputs) or _key_lengths(inputs)):
        if make_plan(inputs.mask, q.shape[-2], k.shape[-2], q.device, packed=True) is None:
            reasons.append(f"mask {type(inputs.mask).__name__} does not fall into blocks")
        if inputs.dropout:
            reasons.append("attention in parts has no dropout")
    return device + reasons


def run(inputs: Inputs, fmha: Any = None) -> tuple[Tensor, Tensor | None]:
    """Compute attention with ``xformers.ops.fmha``, or what stands in for it."""
    fmha = import_module("xformers.ops.fmha") if fmha is None else fmha
    q, k, v = inputs.q, inputs.k, inputs.v
    kernel = XFormersKernel(fmha)
    if _is_plain(inputs):
        bias = fmha.attn_bias.LowerTriangularFromBottomRightMask() if inputs.mask is not None else None
        bias = None if isinstance(inputs.mask, Full) else bias
        heads = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1).transpose(1, 2) for x in (q, k, v))
        out = fmha.memory_efficient_attention(*heads, attn_bias=bias, p=inputs.dropout, scale=inputs.scale)
        return out.transpose(1, 2), None
    lengths = _key_lengths(inputs)
    if lengths:
        bias = fmha.attn_bias.BlockDiagonalPaddedKeysMask.from_seqlens(
            [q.shape[2]] * q.shape[0], k.shape[2], lengths, device=q.device
        )
        return kernel.partial(q, k, v, bias, [q.shape[2]] * q.shape[0], inputs.scale)
    plan = make_plan(inputs.mask, q.shape[-2], k.shape[-2], q.device, packed=True)
    assert plan is not None
    return split_attention(q, k, v, plan, kernel, inputs.scale)


class XFormersKernel:
    """A part by ``xformers.ops.fmha``; see :class:`facemllm.ops.split.Kernel`.

    Its layout is [1, B * M, H, D] for sequences of different lengths. Its partial form takes keys of fewer
    heads, as [1, M, G, H / G, D] with the keys expanded, but has no backward; its backward does not.

    Args:
        fmha: ``xformers.ops.fmha``.
    """

    def __init__(self, fmha: Any) -> None:
        self.fmha = fmha

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, part: Part, allowed: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        """Call the partial form."""
        assert allowed is None
        assert part.lengths is not None
        bias = _bias(self.fmha.attn_bias, part, q.shape[0], q.device)
        return self.partial(q, k, v, bias, part.lengths[0] * q.shape[0], scale)

    def partial(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Any, lengths: Any, scale: float | None
    ) -> tuple[Tensor, Tensor]:
        """Return the output and log-sum-exp, in our layout.

        Args:
            q: Queries [B, H, Q, D].
            k: Keys [B, G, K, D].
            v: Values [B, G, K, D].
            bias: Of all items end to end.
            lengths: Numbers of queries of the sequences of all items.
            scale: Of the scores.
        """
        batch, heads, groups = q.shape[0], q.shape[1], k.shape[1]
        inputs = [_end_to_end(x) for x in (q, k, v)]
        if groups != heads:
            inputs = [
                x.unflatten(2, (groups, -1)) if x.shape[2] == heads else _shared(x, heads // groups)
                for x in inputs
            ]
        out, lse = self.fmha.memory_efficient_attention_partial(*inputs, attn_bias=bias, scale=scale)
        out, lse = out.flatten(2, -2), lse.flatten(1, -2)  # [1, B * Q, H, D], [n or 1, H, ...]
        lse = _packed(lse, lengths)
        return (
            out.unflatten(1, (batch, -1))[0].transpose(1, 2),
            lse.unflatten(2, (batch, -1))[0].transpose(0, 1),
        )

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
        """Call the backward, which takes the log-sum-exp end to end as flash attention gives it."""
        assert allowed is None
        batch, heads, groups = q.shape[0], q.shape[1], k.shape[1]
        bias = _bias(self.fmha.attn_bias, part, batch, q.device)
        widths = q.shape[-1], k.shape[-1], v.shape[-1]
        q, k, v, grad, out = same_width(q, k, v, grad, out, multiple=8)
        k, v = (x.repeat_interleave(heads // groups, dim=1) for x in (k, v))
        grads = self.fmha.memory_efficient_attention_backward(
            *(_end_to_end(x) for x in (grad, out)),
            _end_to_end(lse).transpose(1, 2).contiguous(),
            *(_end_to_end(x) for x in (q, k, v)),
            attn_bias=bias,
            scale=scale,
        )
        dq, dk, dv = (x.unflatten(1, (batch, -1))[0].transpose(1, 2) for x in grads)
        dk, dv = (x.unflatten(1, (groups, -1)).sum(2) for x in (dk, dv))
        dq, dk, dv = (x[..., :width] for x, width in zip((dq, dk, dv), widths, strict=True))
        return dq, dk, dv

    def merge(self, out: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> tuple[Tensor, Tensor]:
        """Call its merger, whose log-sum-exps are [B, H, R]."""
        lses = [lse.transpose(1, 2).contiguous(), other_lse.transpose(1, 2).contiguous()]
        merged, total = self.fmha.merge_attentions([out.contiguous(), other.contiguous()], lses)
        return merged, total.transpose(1, 2)


def _is_plain(inputs: Inputs) -> bool:
    """Return whether one call with its own backward is all there is to it."""
    mask, some = inputs.mask, inputs.q.shape[-2] <= inputs.k.shape[-2]
    simple = isinstance(mask, (type(None), Full)) or (isinstance(mask, Causal) and some)
    return simple and not inputs.needs_lse


def _key_lengths(inputs: Inputs) -> list[int]:
    """Return the numbers of keys of items padded on the right, if its forward-only mask for these fits."""
    mask = inputs.mask
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (inputs.q, inputs.k, inputs.v))
    if not isinstance(mask, Padding) or needs_grad or inputs.dropout:
        return []
    keep = mask.materialize(inputs.q.shape[-2], inputs.k.shape[-2])[:, 0, 0]
    lengths = keep.sum(1)
    right = torch.equal(keep, torch.arange(keep.shape[1]) < lengths[:, None]) and bool((lengths > 0).all())
    return lengths.tolist() if right and len(lengths) == inputs.q.shape[0] else []


@lru_cache(maxsize=256)
def _bias(attn_bias: Any, part: Part, batch: int, device: torch.device) -> Any:
    assert part.lengths is not None
    queries, keys = (list(lengths) * batch for lengths in part.lengths)
    if len(queries) == 1:
        return attn_bias.LowerTriangularFromBottomRightMask() if part.causal else None
    bias = attn_bias.BlockDiagonalMask.from_seqlens(queries, keys, device=device)
    return bias.make_causal_from_bottomright() if part.causal else bias


def _end_to_end(x: Tensor) -> Tensor:
    """[B, H, L, ...] -> [1, B * L, H, ...]."""
    x = x.transpose(1, 2)
    return x.reshape(1, -1, *x.shape[2:])


def _shared(x: Tensor, times: int) -> Tensor:
    return x[:, :, :, None].expand(-1, -1, -1, times, -1)


def _packed(lse: Tensor, lengths: Any) -> Tensor:
    """Return a log-sum-exp [1, H, M]: some kernels give [sequences, H, longest], and some pad the end."""
    if lse.shape[0] == 1:
        return lse[..., : sum(lengths)]
    return torch.cat([row[None, :, :length] for row, length in zip(lse, lengths, strict=True)], dim=-1)
