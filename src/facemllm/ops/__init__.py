"""Pure functions on tensors. ``reference`` says what each means; backends compute it faster."""

from facemllm.ops.attention import attention, merge_partials, partial_attention
from facemllm.ops.backends import backend_names, backend_report, use_backend
from facemllm.ops.masks import (
    BlockDiagonal,
    Causal,
    Explicit,
    Full,
    Mask,
    Padding,
    PrefixTree,
    Region,
    Sliding,
    TokenTree,
)
from facemllm.ops.reference import rms_norm, rotary, swiglu
from facemllm.ops.tree import prefix_attention

__all__ = [
    "BlockDiagonal",
    "Causal",
    "Explicit",
    "Full",
    "Mask",
    "Padding",
    "PrefixTree",
    "Region",
    "Sliding",
    "TokenTree",
    "attention",
    "backend_names",
    "backend_report",
    "merge_partials",
    "partial_attention",
    "prefix_attention",
    "rms_norm",
    "rotary",
    "swiglu",
    "use_backend",
]
