"""The gated feed-forward layer of Llama and its relatives."""

from __future__ import annotations

import torch
from torch import Tensor

from facemllm.ops import reference
from facemllm.ops.backends import Arguments, Function, select_function


def swiglu(gate: Tensor, up: Tensor, *, backend: str | None = None) -> Tensor:
    """Return ``silu(gate) * up``, the activation of a gated feed-forward layer.

    Equivalent plain torch: :func:`facemllm.ops.reference.swiglu`, which is all there is: no backend has it
    apart from the layers around it (see ``swiglu_mlp``).

    Raises:
        ConfigError: If another backend than 'eager' is asked for.

    Example:
        >>> swiglu(torch.zeros(1), torch.ones(1))
        tensor([0.])
    """
    arguments = Arguments((gate, up))
    return select_function("swiglu", _ACTIVATIONS, backend, arguments)(*arguments.values)


def swiglu_mlp(x: Tensor, gate: Tensor, up: Tensor, down: Tensor, *, backend: str | None = None) -> Tensor:
    """Return ``(silu(x gate^T) * (x up^T)) down^T``.

    Equivalent plain torch: :func:`facemllm.ops.reference.swiglu_mlp`.

    Args:
        x: [..., D]
        gate: Weight of the gate [F, D].
        up: Weight of what is gated [F, D].
        down: Weight of the way back [D, F].
        backend: Name of the backend that must compute it; the first that can if left out.

    Returns:
        [..., D]

    Raises:
        ConfigError: If the backend cannot.

    Source: GLU Variants Improve Transformer, arXiv 2002.05202, equation 6.

    Example:
        >>> swiglu_mlp(torch.ones(1, 2), torch.zeros(3, 2), torch.ones(3, 2), torch.ones(2, 3))
        tensor([[0., 0.]])
    """
    arguments = Arguments((x, gate, up, down))
    return select_function("swiglu_mlp", _FUNCTIONS, backend, arguments)(*arguments.values)


def _of_xformers(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    from xformers.ops import swiglu

    fused: Tensor = swiglu(x, gate, None, up, None, down, None)
    return fused


def _against_xformers(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> list[str]:
    reasons = [] if x.device.type == "cuda" else [f"tensors are on {x.device.type}, not on cuda"]
    if x.dtype not in (torch.float16, torch.bfloat16):
        reasons.append(f"dtype {x.dtype} is neither float16 nor bfloat16")
    return reasons


_ACTIVATIONS = {"eager": Function(lambda *arguments: [], reference.swiglu)}
_FUNCTIONS = {
    "xformers": Function(_against_xformers, _of_xformers),
    "eager": Function(lambda *arguments: [], reference.swiglu_mlp),
}
