"""The calls made to torch's memory-efficient CUDA kernel, on the CPU.

The two operators are taken over, with arguments as torch's own schema binds them, by what they compute:
layouts, padding of the log-sum-exp, and gradients from the output and log-sum-exp that are handed in. The
kernels themselves are tested in ``test_xformers.py`` where there is a device.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from facemllm.ops import (
    BlockDiagonal,
    Causal,
    Full,
    Mask,
    Padding,
    PrefixTree,
    Sliding,
    TokenTree,
    reference,
)
from facemllm.ops._sdpa import CUDAKernel
from facemllm.ops.parts import make_plan
from facemllm.ops.split import split_attention

FORWARD = torch.ops.aten._efficient_attention_forward.default
BACKWARD = torch.ops.aten._efficient_attention_backward.default


class MemoryEfficient(TorchDispatchMode):
    """Takes over the two operators.

    Args:
        scale_factor: To plant a fault.
    """

    def __init__(self, scale_factor: float = 1.0) -> None:
        super().__init__()
        self.scale_factor, self.calls = scale_factor, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in (FORWARD, BACKWARD):
            return func(*args, **(kwargs or {}))
        names = [argument.name for argument in func._schema.arguments]
        bound = {**dict(zip(names, args, strict=False)), **(kwargs or {})}
        self.calls.append("forward" if func is FORWARD else "backward")
        return self._forward(bound) if func is FORWARD else self._backward(bound)

    def _weights(self, bound: dict[str, Any], lse: Tensor | None = None) -> tuple[Tensor, ...]:
        q, k, v = (bound[name].transpose(1, 2) for name in ("query", "key", "value"))
        assert q.shape[1] == k.shape[1] == v.shape[1]
        assert all(x.stride(-1) == 1 and x.shape[-1] % 8 == 0 for x in (q, k, v))
        assert bound["dropout_p"] == 0
        scores = q @ k.mT * bound["scale"] * self.scale_factor
        if bound["bias"] is not None:
            assert bound["bias"].shape == scores.shape
            scores = scores + bound["bias"]
        if bound["custom_mask_type"] == 1:  # from the first query and key
            scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
        lse = scores.logsumexp(-1) if lse is None else lse
        return torch.exp(scores - lse[..., None]), lse, q, k, v

    def _forward(self, bound: dict[str, Any]) -> tuple[Any, ...]:
        assert bound["compute_log_sumexp"]
        weights, lse, _, _, v = self._weights(bound)  # not a number for a query without keys
        padded = torch.nn.functional.pad(lse, (0, -lse.shape[-1] % 32), value=torch.nan)
        none = torch.empty(0, dtype=torch.long)
        return (weights @ v).transpose(1, 2), padded, none, none, v.shape[2], v.shape[2]

    def _backward(self, bound: dict[str, Any]) -> tuple[Any, ...]:
        lse, queries = bound["logsumexp"], bound["query"].shape[1]
        assert lse.shape[-1] % 32 == 0
        assert torch.isposinf(lse[..., queries:]).all()
        assert (bound["max_seqlen_q"], bound["max_seqlen_k"]) == (queries, bound["key"].shape[1])
        weights, _, q, k, v = self._weights(bound, lse[..., :queries])
        grad, out = bound["grad_out_"].transpose(1, 2), bound["out"].transpose(1, 2)
        of_scores = weights * (grad @ v.mT - (grad * out).sum(-1, keepdim=True)) * bound["scale"]
        grads = of_scores @ k, of_scores.mT @ q, weights.mT @ grad
        return (*(x.transpose(1, 2) for x in grads), torch.empty(0))


KEEP = torch.tensor([[False, True, True, False, True], [True, False, True, True, False]])
MASKS: list[tuple[Mask | None, int, int]] = [
    (None, 4, 6),
    (Causal(), 3, 5),
    (Causal() & Padding(KEEP), 5, 5),
    (Padding(KEEP), 3, 5),
    (Sliding(2), 5, 7),
    (BlockDiagonal((2, 3), (4, 3)), 5, 7),
    (PrefixTree((3, 2), ((2, 0, 1), (3,)), ((1, 3), (0, 0))), 11, 11),
    (TokenTree((-1, 0, 0, 1, -1, 4)), 6, 6),
]


def compare(mask: Mask | None, queries: int, keys: int, mode: MemoryEfficient) -> None:
    torch.manual_seed(0)
    shapes = [(2, 4, queries, 8), (2, 2, keys, 8), (2, 2, keys, 5)]
    q, k, v = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    exact = reference.partial_attention(q, k, v, (mask or Full()).materialize(queries, keys))
    seen = exact[1] > -torch.inf
    plan = make_plan(mask, queries, keys, q.device)
    with mode:
        found = split_attention(q, k, v, plan, CUDAKernel(), None)
        losses = [out.square().sum() + lse[seen].sum() for out, lse in (found, exact)]
        grads = [torch.autograd.grad(loss, (q, k, v)) for loss in losses]
    torch.testing.assert_close(found, exact)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize(("mask", "queries", "keys"), MASKS, ids=lambda x: type(x).__name__)
def test_calls_give_the_reference_and_its_gradients(mask, queries, keys):
    mode = MemoryEfficient()
    compare(mask, queries, keys, mode)
    assert mode.calls.count("forward") == mode.calls.count("backward") > 0


def test_a_wrong_scale_is_noticed():
    with pytest.raises(AssertionError, match="not close"):
        compare(PrefixTree.single(3, (2, 2)), 7, 7, MemoryEfficient(scale_factor=1.01))
