"""Root mean square normalisation."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from facemllm.core.errors import ConfigError
from facemllm.ops import reference
from facemllm.ops.backends import Arguments, Function, select_function
from facemllm.ops.checks import check_tensors, is_number


def rms_norm(x: Tensor, weight: Tensor, *, eps: float = 1e-6, backend: str | None = None) -> Tensor:
    """Return ``x / rms(x) * weight``, the root mean square being over the last axis.

    Equivalent plain torch: :func:`facemllm.ops.reference.rms_norm`.

    Args:
        x: [..., D]
        weight: [D]
        eps: Added to the mean square.
        backend: Name of the backend that must compute it; the first that can if left out.

    Raises:
        ConfigError: If the weight is of another width, ``eps`` is negative, or the backend cannot.

    Source: Root Mean Square Layer Normalization, arXiv 1910.07467, equation 4.

    Example:
        >>> import torch
        >>> rms_norm(torch.tensor([3.0, 4.0]), torch.ones(2), eps=0.0)
        tensor([0.8485, 1.1314])
    """
    check_tensors("rms_norm", x=x, weight=weight)
    if tuple(weight.shape) != tuple(x.shape[-1:]) or not x.is_floating_point() or not is_number(eps, least=0):
        raise ConfigError(
            "rms_norm cannot normalise these",
            given=f"x {tuple(x.shape)} of {x.dtype}, weight {tuple(weight.shape)}, eps={eps!r}",
            expected="floating x [..., D], weight [D], eps of 0 or more",
            do="pass the weight of a layer of this width",
        )
    arguments = Arguments((x, weight, eps))
    return select_function("rms_norm", _FUNCTIONS, backend, arguments)(*arguments.values)


def _of_torch(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return functional.rms_norm(x, x.shape[-1:], weight, eps)


def _against_torch(x: Tensor, weight: Tensor, eps: float) -> list[str]:
    return [] if x.dtype == weight.dtype else [f"x is {x.dtype} and the weight {weight.dtype}"]


def _of_xformers(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    from xformers.ops import rms_norm as fused

    return fused(x.contiguous(), weight.contiguous(), eps)


def _against_xformers(x: Tensor, weight: Tensor, eps: float) -> list[str]:
    import torch

    reasons = [] if x.device.type == "cuda" else [f"tensors are on {x.device.type}, not on cuda"]
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        reasons.append("it has no gradient")
    return reasons + _against_torch(x, weight, eps)


def _reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return reference.rms_norm(x, weight, eps=eps)


_FUNCTIONS = {
    "xformers": Function(_against_xformers, _of_xformers),
    "sdpa": Function(_against_torch, _of_torch),
    "eager": Function(lambda *arguments: [], _reference),
}
