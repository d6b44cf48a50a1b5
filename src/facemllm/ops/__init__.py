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
from facemllm.ops.norm import rms_norm
from facemllm.ops.regions import region_boxes, region_pool, sample_points
from facemllm.ops.rotary import rotary
from facemllm.ops.swiglu import swiglu, swiglu_mlp
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
    "region_boxes",
    "region_pool",
    "rms_norm",
    "rotary",
    "sample_points",
    "swiglu",
    "swiglu_mlp",
    "use_backend",
]
