"""xFormers' memory-efficient attention on CUDA, which also gives the log-sum-exp."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from facemllm.ops.backends import Inputs
from facemllm.ops.masks import BlockDiagonal, Causal, Full


def unavailable_reasons() -> list[str]:
    """Return why it cannot run here."""
    reasons = []
    if find_spec("xformers") is None:
        reasons.append("xformers is not installed (pip install 'facemllm[xformers]')")
    else:
        try:
            import_module("xformers.ops")
        except (ImportError, OSError, RuntimeError) as error:  # built for another torch
            reasons.append(f"xformers cannot be imported: {error}")
    if not torch.cuda.is_available():
        reasons.append("there is no CUDA device")
    return reasons


def not_supported_reasons(inputs: Inputs) -> list[str]:
    """Return why these inputs cannot be computed."""
    reasons = []
    if inputs.q.device.type != "cuda":
        reasons.append(f"tensors are on {inputs.q.device.type}, not on cuda")
    if inputs.q.dtype not in (torch.float16, torch.bfloat16):
        reasons.append(f"dtype {inputs.q.dtype} is neither float16 nor bfloat16")
    if inputs.q.shape[1] != inputs.k.shape[1]:
        reasons.append("keys have fewer heads than queries")
    if inputs.q.shape[-1] != inputs.v.shape[-1] or inputs.q.shape[-1] % 8:
        reasons.append("the width of a head is not a multiple of 8, or differs between keys and values")
    if not isinstance(inputs.mask, (type(None), Full, Causal, BlockDiagonal)):
        reasons.append(f"mask {type(inputs.mask).__name__} has no kernel")
    if inputs.needs_lse and any(tensor.requires_grad for tensor in (inputs.q, inputs.k, inputs.v)):
        reasons.append("it has no gradient where the log-sum-exp is asked for")
    if isinstance(inputs.mask, BlockDiagonal) and inputs.q.shape[0] != 1:
        reasons.append("block-diagonal masks are for a batch of 1")
    if isinstance(inputs.mask, BlockDiagonal) and inputs.needs_lse:
        reasons.append(
            "the layout of the log-sum-exp under a block-diagonal mask differs between its versions"
        )
    if inputs.dropout:
        reasons.append("dropout is left to the backends of torch, whose random state can be restored")
    if _has_empty_rows(inputs):
        reasons.append("some queries would have no keys")
    return reasons


def run(inputs: Inputs) -> tuple[Tensor, Tensor | None]:
    """Compute attention; xFormers' layout is [B, L, H, D]."""
    from xformers.ops import fmha

    q, k, v = (tensor.transpose(1, 2) for tensor in (inputs.q, inputs.k, inputs.v))
    bias = _bias(inputs)
    if not inputs.needs_lse:
        return fmha.memory_efficient_attention(q, k, v, attn_bias=bias, scale=inputs.scale).transpose(
            1, 2
        ), None
    out, lse = fmha.memory_efficient_attention_forward_requires_grad(
        q, k, v, attn_bias=bias, scale=inputs.scale
    )
    return out.transpose(1, 2), lse[..., : q.shape[1]]  # some kernels pad it


def _has_empty_rows(inputs: Inputs) -> bool:
    mask, queries, keys = inputs.mask, inputs.q.shape[-2], inputs.k.shape[-2]
    if isinstance(mask, BlockDiagonal):
        pairs = list(zip(mask.lengths, mask.key_lengths or mask.lengths, strict=False))
        return any(k == 0 or (mask.causal and q > k) for q, k in pairs)
    return keys == 0 or (isinstance(mask, Causal) and queries > keys)


def _bias(inputs: Inputs) -> Any:
    from xformers.ops.fmha import attn_bias

    mask = inputs.mask
    if isinstance(mask, Causal):
        return attn_bias.LowerTriangularFromBottomRightMask()
    if isinstance(mask, BlockDiagonal):
        keys = list(mask.lengths if mask.key_lengths is None else mask.key_lengths)
        bias = attn_bias.BlockDiagonalMask.from_seqlens(list(mask.lengths), keys)
        return bias.make_causal_from_bottomright() if mask.causal else bias
    return None
