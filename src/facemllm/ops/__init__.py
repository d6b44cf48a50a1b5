"""Pure functions on tensors. ``reference`` says what each means; backends compute it faster."""

from facemllm.ops.attention import attention, merge_partials, partial_attention
from facemllm.ops.backends import backend_names, backend_report, use_backend
from facemllm.ops.masks import BlockDiagonal, Causal, Full, Mask, Padding, PrefixTree
from facemllm.ops.reference import rms_norm, rotary, swiglu

__all__ = [
    "BlockDiagonal",
    "Causal",
    "Full",
    "Mask",
    "Padding",
    "PrefixTree",
    "attention",
    "backend_names",
    "backend_report",
    "merge_partials",
    "partial_attention",
    "rms_norm",
    "rotary",
    "swiglu",
    "use_backend",
]
