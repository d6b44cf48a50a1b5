"""xFormers cannot run on a CPU. What is tested of it here, and how:

- its bias objects against our masks, through ``materialize`` (where xformers can be imported);
- the very calls our backend makes, on the CPU, against a stand-in that keeps the documented contract of
  ``xformers.ops.fmha`` and computes by our reference;
- on CUDA, the kernels themselves.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facemllm.core.errors import ConfigError
from facemllm.ops import (
    BlockDiagonal,
    Causal,
    Full,
    Mask,
    Padding,
    PrefixTree,
    Region,
    Sliding,
    TokenTree,
    _xformers,
    attention,
    backend_report,
    partial_attention,
    reference,
    rms_norm,
    swiglu_mlp,
)
from facemllm.ops.backends import Inputs


class BlockDiagonalMask:
    """Sequences end to end; as in xformers.ops.fmha.attn_bias."""

    def __init__(self, queries: list[int], keys: list[int], causal: bool = False, padding: int = 0) -> None:
        self.queries, self.keys, self.causal, self.padding = queries, keys, causal, padding

    @classmethod
    def from_seqlens(cls, q_seqlen: list[int], kv_seqlen: list[int], *, device: Any) -> BlockDiagonalMask:
        assert isinstance(q_seqlen, list)
        assert isinstance(kv_seqlen, list)
        return cls(q_seqlen, kv_seqlen)

    def make_causal_from_bottomright(self) -> BlockDiagonalMask:
        assert all(q <= k for q, k in zip(self.queries, self.keys, strict=True)), "undefined there"
        return type(self)(self.queries, self.keys, True)

    def materialize(self, shape: tuple[int, int]) -> Tensor:
        inner = [
            torch.ones(q, self.padding or k, dtype=torch.bool).tril(k - q if self.causal else k)
            & (torch.arange(self.padding or k) < k)
            for q, k in zip(self.queries, self.keys, strict=True)
        ]
        allowed = torch.block_diag(*inner).bool()
        assert allowed.shape == shape
        return torch.zeros(shape).masked_fill(~allowed, -torch.inf)


class BlockDiagonalPaddedKeysMask(BlockDiagonalMask):
    """The same with room for more keys after those of each sequence."""

    @classmethod
    def from_seqlens(cls, q_seqlen: list[int], kv_padding: int, kv_seqlen: list[int], *, device: Any) -> Any:
        return cls(q_seqlen, kv_seqlen, padding=kv_padding)


class LowerTriangularFromBottomRightMask:
    """Causal from the last query and key."""

    def materialize(self, shape: tuple[int, int]) -> Tensor:
        allowed = torch.ones(shape, dtype=torch.bool).tril(shape[1] - shape[0])
        return torch.zeros(shape).masked_fill(~allowed, -torch.inf)


class StandIn:
    """The contract of ``xformers.ops.fmha``: layouts, log-sum-exps, what has a backward; by our reference.

    Args:
        packed: Give the log-sum-exp of several sequences as flash attention does, [1, H, M]; otherwise as
            CUTLASS does, [sequences, H, longest].
    """

    class attn_bias:
        BlockDiagonalMask = BlockDiagonalMask
        BlockDiagonalPaddedKeysMask = BlockDiagonalPaddedKeysMask
        LowerTriangularFromBottomRightMask = LowerTriangularFromBottomRightMask

    def __init__(self, packed: bool = True) -> None:
        self.packed, self.calls = packed, []

    def _compute(self, q: Tensor, k: Tensor, v: Tensor, bias: Any, scale: float | None) -> tuple[Tensor, ...]:
        if isinstance(bias, BlockDiagonalMask):
            assert q.shape[0] == k.shape[0] == 1, "sequences end to end are one item"
        allowed = None if bias is None else bias.materialize((q.shape[1], k.shape[1])) == 0
        return reference.partial_attention(*(x.transpose(1, 2) for x in (q, k, v)), allowed, scale=scale)

    def memory_efficient_attention(
        self, query: Tensor, key: Tensor, value: Tensor, *, attn_bias: Any, p: float, scale: float | None
    ) -> Tensor:
        assert query.shape[2] == key.shape[2]
        self.calls.append("attention")
        return self._compute(query, key, value, attn_bias, scale)[0].transpose(1, 2)

    def memory_efficient_attention_partial(
        self, query: Tensor, key: Tensor, value: Tensor, *, attn_bias: Any, scale: float | None
    ) -> tuple[Tensor, Tensor]:
        self.calls.append("partial")
        grouped = query.dim() == 5  # [B, M, G, H, K]
        assert query.shape[2:-1] == key.shape[2:-1] == value.shape[2:-1]
        flat = (x.flatten(2, 3) if grouped else x for x in (query, key, value))
        with torch.no_grad():  # it has no backward
            out, lse = self._compute(*flat, attn_bias, scale)
        out = out.transpose(1, 2)
        if isinstance(attn_bias, BlockDiagonalMask) and not self.packed:
            rows = lse[0].split(attn_bias.queries, dim=-1)
            longest = max(attn_bias.queries)
            padded = [torch.nn.functional.pad(x, (0, longest - x.shape[-1]), value=torch.inf) for x in rows]
            lse = torch.stack(padded)
        groups = query.shape[2:4] if grouped else None
        return (out.unflatten(2, groups), lse.unflatten(1, groups)) if groups else (out, lse)

    def memory_efficient_attention_backward(
        self,
        grad: Tensor,
        output: Tensor,
        lse: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        attn_bias: Any,
        scale: float | None,
    ) -> tuple[Tensor, ...]:
        self.calls.append("backward")
        assert query.dim() == 4, "no groups in backward"
        assert query.shape[-1] == value.shape[-1]
        assert query.shape[2] == key.shape[2]
        assert lse.shape == (query.shape[0], query.shape[2], query.shape[1])
        assert lse.is_contiguous()
        allowed = None if attn_bias is None else attn_bias.materialize((query.shape[1], key.shape[1])) == 0
        q, k, v, o, g = (x.transpose(1, 2) for x in (query, key, value, output, grad))
        scores = q @ k.mT * scale
        scores = scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)
        weights = torch.exp(scores - lse[..., None])
        of_scores = weights * (g @ v.mT - (g * o).sum(-1, keepdim=True)) * scale
        return tuple(x.transpose(1, 2) for x in (of_scores @ k, of_scores.mT @ q, weights.mT @ g))

    def merge_attentions(self, attn_split: list[Tensor], lse_split: list[Tensor]) -> tuple[Tensor, Tensor]:
        self.calls.append("merge")
        for out, lse in zip(attn_split, lse_split, strict=True):
            assert (out.shape[0], out.shape[2], out.shape[1]) == lse.shape
        parts = zip((out.transpose(1, 2) for out in attn_split), lse_split, strict=True)
        out, lse = reference.merge_partials(list(parts))
        return out.transpose(1, 2), lse


TREE = PrefixTree((3, 2), ((2, 0, 1), (3,)))
MASKS: list[tuple[Mask | None, int, int]] = [
    (None, 4, 6),
    (Full(), 4, 6),
    (Causal(), 4, 6),
    (Causal(), 6, 4),
    (Sliding(2), 5, 7),
    (BlockDiagonal((2, 3), (4, 3)), 5, 7),
    (BlockDiagonal((3, 2), (1, 4), causal=True), 5, 5),
    (TREE, TREE.length, TREE.length),
    (PrefixTree.single(4, (2, 2), (1, 3)), 8, 8),
    (TokenTree((-1, 0, 1, 1, 0, -1, 3)), 7, 7),
    (TREE & Sliding(2), TREE.length, TREE.length),
]


def inputs(queries: int, keys: int, *, batch: int, heads: int = 4, groups: int = 2) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(batch, heads, queries, 8), (batch, groups, keys, 8), (batch, groups, keys, 8)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize(("mask", "queries", "keys"), MASKS, ids=lambda x: type(x).__name__)
def test_calls_give_the_reference_and_its_gradients(mask, queries, keys, groups, batch, packed):
    q, k, v = inputs(queries, keys, batch=batch, groups=groups)
    exact = reference.partial_attention(q, k, v, (mask or Full()).materialize(queries, keys))
    seen = exact[1] > -torch.inf
    for needs_lse in (False, True):
        found = _xformers.run(Inputs(q, k, v, mask, needs_lse=needs_lse), StandIn(packed))
        torch.testing.assert_close(found[0], exact[0])
        losses = [found[0].square().sum(), exact[0].square().sum()]
        if needs_lse:
            torch.testing.assert_close(found[1], exact[1])
            losses = [loss + lse[seen].sum() for loss, lse in zip(losses, (found[1], exact[1]), strict=True)]
        grads = [torch.autograd.grad(loss, (q, k, v), retain_graph=True) for loss in losses]
        torch.testing.assert_close(*grads)


def test_a_tree_is_two_partial_calls_and_a_merger_however_many_branches():
    tree = PrefixTree((30, 20), ((3,) * 20, (1, 5, 0, 7)))
    q, k, v = inputs(tree.length, tree.length, batch=1)
    fmha = StandIn()
    out, _ = _xformers.run(Inputs(q, k, v, tree), fmha)
    assert fmha.calls == ["partial", "partial", "merge"]
    out.sum().backward()
    assert fmha.calls[3:] == ["backward", "backward"]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_keys_padded_on_the_right_in_inference(lengths):
    q, k, v = (x.detach() for x in inputs(3, 6, batch=len(lengths)))
    mask = Padding(torch.arange(6) < torch.tensor(lengths)[:, None])
    fmha = StandIn()
    out, lse = _xformers.run(Inputs(q, k, v, mask, needs_lse=True), fmha)
    torch.testing.assert_close((out, lse), reference.partial_attention(q, k, v, mask.materialize(3, 6)))
    assert fmha.calls == ["partial"]


def test_a_stand_in_with_a_wrong_log_sum_exp_is_noticed():
    class Unmerged(StandIn):
        def merge_attentions(
            self, attn_split: list[Tensor], lse_split: list[Tensor]
        ) -> tuple[Tensor, Tensor]:
            return super().merge_attentions(attn_split, [lse + 0.1 * i for i, lse in enumerate(lse_split)])

    q, k, v = inputs(TREE.length, TREE.length, batch=1)
    exact = reference.attention(q, k, v, TREE.materialize(TREE.length, TREE.length))
    assert not torch.allclose(_xformers.run(Inputs(q, k, v, TREE), Unmerged())[0], exact, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, "tensors are on cpu"),
        ({"dtype": torch.float32}, "neither float16 nor bfloat16"),
        ({"width": 12}, "not a multiple of 8"),
        ({"width": 256}, "not a multiple of 8 up to 248"),
        ({"values": 16}, "differ in width"),
        ({"keys": 0}, "a tensor is empty"),
        ({"mask": Region(torch.ones(1, 3, 4), 1, 3)}, "Region does not fall into blocks"),
        ({"mask": Causal() & Padding(torch.ones(1, 3, dtype=torch.bool))}, "Both does not fall into blocks"),
        ({"mask": Sliding(2), "dropout": 0.1}, "no dropout"),
    ],
)
def test_what_it_cannot_do_has_a_reason(change, reason):
    options = {"dtype": torch.bfloat16, "width": 8, "keys": 3, "mask": None, "dropout": 0.0, **change}
    q = torch.zeros(1, 2, 3, options["width"], dtype=options["dtype"])
    k = torch.zeros(1, 2, options["keys"], options["width"], dtype=options["dtype"])
    v = torch.zeros(1, 2, options["keys"], options.get("values", options["width"]), dtype=options["dtype"])
    reasons = _xformers.not_supported_reasons(Inputs(q, k, v, options["mask"], dropout=options["dropout"]))
    assert reasons[0].startswith("tensors are on cpu")
    assert any(reason in found for found in reasons)
    assert len(reasons) == (1 if not change else 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so():
    x = torch.zeros(1, 2, 3, 8, dtype=torch.bfloat16)
    with pytest.raises(ConfigError, match="xformers: there is no CUDA device"):
        attention(x, x, x, backend="xformers")
    with pytest.raises(ConfigError, match="xformers: there is no CUDA device"):
        rms_norm(x, x[0, 0, 0], backend="xformers")
    with pytest.raises(ConfigError, match="xformers: there is no CUDA device"):
        swiglu_mlp(x, x[0, 0], x[0, 0], x[0, 0].mT, backend="xformers")


# --- its own bias objects


@pytest.fixture(scope="module")
def attn_bias() -> Any:
    reason = "xformers is not installed, or cannot be imported with this torch"
    return pytest.importorskip("xformers.ops.fmha.attn_bias", reason=reason, exc_type=ImportError)


def assert_same(bias: Any, allowed: Tensor) -> None:
    assert torch.equal(bias.materialize(tuple(allowed.shape[-2:])) == 0, allowed)


@settings(max_examples=30, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=2, max_size=5))
def test_its_block_diagonal_biases_are_our_masks(attn_bias, pairs):
    rows, cols = [q for q, _ in pairs], [q + more for q, more in pairs]
    shape, device = (sum(rows), sum(cols)), torch.device("cpu")
    bias = attn_bias.BlockDiagonalMask.from_seqlens(rows, cols, device=device)
    assert_same(bias, BlockDiagonal(tuple(rows), tuple(cols)).materialize(*shape))
    causal = BlockDiagonal(tuple(rows), tuple(cols), causal=True).materialize(*shape)
    assert_same(bias.make_causal_from_bottomright(), causal)
    assert not torch.equal(bias.materialize(shape) == 0, causal) or max(rows) == 1
    assert_same(
        BlockDiagonalMask.from_seqlens(rows, cols, device=None).make_causal_from_bottomright(), causal
    )


def test_its_causal_and_padded_biases_are_our_masks(attn_bias):
    for queries, keys in ((3, 3), (2, 5)):
        causal = Causal().materialize(queries, keys)
        assert_same(attn_bias.LowerTriangularFromBottomRightMask(), causal)
        assert_same(LowerTriangularFromBottomRightMask(), causal)
    lengths, room = [2, 4, 1], 4
    device = torch.device("cpu")
    bias = attn_bias.BlockDiagonalPaddedKeysMask.from_seqlens([3] * 3, room, lengths, device=device)
    padding = Padding(torch.arange(room) < torch.tensor(lengths)[:, None]).materialize(3, room)
    end_to_end = torch.block_diag(*padding.expand(3, 1, 3, room)[:, 0]).bool()
    assert_same(bias, end_to_end)
    assert_same(BlockDiagonalPaddedKeysMask.from_seqlens([3] * 3, room, lengths, device=None), end_to_end)


# --- its kernels


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", ["xformers", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("mask", "queries", "keys"), MASKS, ids=lambda x: type(x).__name__)
def test_kernels_on_cuda(mask, queries, keys, dtype, name):
    reasons = backend_report()[name]
    if reasons:
        pytest.skip("; ".join(reasons))
    wide = [x.detach().cuda().requires_grad_() for x in inputs(queries, keys, batch=2)]
    low = [x.detach().to(dtype).requires_grad_() for x in wide]
    plain = [x.detach().to(dtype).requires_grad_() for x in wide]
    allowed = (mask or Full()).materialize(queries, keys, "cuda")
    exact = reference.attention(*wide, allowed)
    eager = reference.attention(*plain, allowed)
    found = attention(*low, mask, backend=name)
    results = [(found, eager, exact)]
    for out in (found, eager, exact):
        out.square().sum().backward()
    results += [(a.grad, b.grad, c.grad) for a, b, c in zip(low, plain, wide, strict=True)]
    for ours, of_eager, of_exact in results:
        bound = 2 * (of_eager - of_exact).abs().max() + torch.finfo(dtype).eps * of_exact.abs().max()
        assert (ours - of_exact).abs().max() <= bound
    lse = partial_attention(*low, mask, backend=name)[1]
    torch.testing.assert_close(
        lse.double(), reference.partial_attention(*wide, allowed)[1], atol=0.05, rtol=0.01
    )
