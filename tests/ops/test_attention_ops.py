"""Attention against the float64 reference, and its invariants."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

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
    attention,
    backend_names,
    backend_report,
    merge_partials,
    partial_attention,
    reference,
    use_backend,
)
from facemllm.ops.backends import Inputs, load_backend

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
RUNNING = [name for name, reasons in backend_report().items() if not reasons]


def assert_close_to_reference(out: Tensor, eager: Tensor, exact: Tensor, v: Tensor) -> None:
    """Error at most twice that of plain torch in the same dtype, plus one ulp of the largest value.

    Of the values, not of the result, in which they may cancel. Cases are of some size, so that the
    greatest error of plain torch is one of many and not a lucky one.
    """
    ulp = torch.finfo(out.dtype).eps * v.double().abs().max()
    bound = 2 * (eager.double() - exact).abs().max() + ulp
    error = (out.double() - exact).abs().max()
    assert error <= bound, f"error {error:.3g} exceeds {bound:.3g}"


def masks(
    draw: st.DrawFn, kind: str, batch: int, queries: int, keys: int, generator: torch.Generator
) -> Mask:
    def keep() -> Padding:
        return Padding(torch.rand(batch, keys, generator=generator) < 0.6)

    if kind == "tree":  # of `queries` tokens: cut them into trunks and branches
        cuts = sorted(draw(st.lists(st.integers(0, queries), min_size=5, max_size=5)))
        a, b, c, d, e, f = (hi - lo for lo, hi in pairwise([0, *cuts, queries]))
        return PrefixTree((a, d), ((b, c), (e, f)), draw(st.sampled_from([None, ((0, a), (d // 2, d))])))
    if kind == "tree and window":  # a padded tree of which only what is near is seen
        cut = draw(st.integers(0, queries))
        return PrefixTree.single(cut, (1,) * (queries - cut)) & Sliding(draw(st.integers(1, 6))) & keep()
    if kind == "token tree":
        return TokenTree(tuple(draw(st.integers(-1, i - 1)) for i in range(queries)))
    if kind == "blocks":
        rows, cols = draw(st.integers(0, queries)), draw(st.integers(0, keys))
        return BlockDiagonal((rows, queries - rows), (cols, keys - cols), causal=draw(st.booleans()))
    if kind == "region":
        return Region(torch.rand(batch, queries, 4, generator=generator).sort(-1).values, 1, keys)
    return {
        "full": Full(),
        "causal": Causal(),
        "padding": keep(),
        "both": keep() & Causal() & keep(),
        "window and cut": Sliding(draw(st.integers(1, 6))) & BlockDiagonal((1, queries - 1), (keys - 1, 1)),
        "sliding": Sliding(draw(st.integers(1, 6))),
    }[kind]


@st.composite
def cases(draw: st.DrawFn, least: int = 1) -> tuple[tuple[Tensor, Tensor, Tensor], Mask | None, float | None]:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    batch, groups = draw(st.integers(least, least + 2)), draw(st.integers(1, 2))
    heads = groups * draw(st.integers(1, 2))
    queries, keys = draw(st.integers(least, 9)), draw(st.integers(least, 9))
    kind = draw(st.sampled_from(KINDS))
    keys = queries if "tree" in kind else keys
    mask = None if kind == "none" else masks(draw, kind, batch, queries, keys, generator)
    width = draw(st.sampled_from([least, 4, 8]))
    values = draw(st.sampled_from([width, width, 5]))
    spread = draw(st.sampled_from([0.1, 1.0, 5.0]))
    layout = draw(st.sampled_from(list(LAYOUTS)))
    shapes = [(batch, heads, queries, width), (batch, groups, keys, width), (batch, groups, keys, values)]
    tensors = (torch.randn(shape, generator=generator, dtype=torch.float64) * spread for shape in shapes)
    q, k, v = map(LAYOUTS[layout], tensors)
    return (q, k, v), mask, draw(st.sampled_from([None, 0.3]))


KINDS = ["none", "full", "causal", "padding", "both", "window and cut", "blocks", "sliding", "region"]
KINDS += ["tree", "token tree", "tree and window"]
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "heads inside": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "width outside": lambda x: x.mT.contiguous().mT,
    "every other": lambda x: x.repeat_interleave(2, dim=2)[:, :, ::2],
}


def refuses(name: str, inputs: Inputs) -> bool:
    return bool(load_backend(name).not_supported_reasons(inputs))


@pytest.mark.parametrize("name", RUNNING)
@settings(max_examples=100, deadline=None)
@given(case=cases(least=4), dtype=st.sampled_from(DTYPES))
def test_backends_are_as_good_as_eager(name, case, dtype):
    (q, k, v), mask, scale = case
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    allowed = None if mask is None else mask.materialize(q.shape[2], k.shape[2])
    exact, exact_lse = reference.partial_attention(q.double(), k.double(), v.double(), allowed, scale=scale)
    eager, eager_lse = reference.partial_attention(q, k, v, allowed, scale=scale)
    if not refuses(name, Inputs(q, k, v, mask, scale)):
        out = attention(q, k, v, mask, scale=scale, backend=name)
        assert out.dtype == dtype
        assert_close_to_reference(out, eager, exact, v)
    if not refuses(name, Inputs(q, k, v, mask, scale, needs_lse=True)):
        out, lse = partial_attention(q, k, v, mask, scale=scale, backend=name)
        assert_close_to_reference(out, eager, exact, v)
        assert torch.equal(lse == -torch.inf, exact_lse == -torch.inf)
        seen = exact_lse > -torch.inf
        if seen.any():
            # A score is a sum of products which may cancel: the ulp is of what is added up.
            products = reference.partial_attention(
                q.double().abs(), k.double().abs(), v.double(), scale=scale
            )
            assert_close_to_reference(lse[seen], eager_lse[seen], exact_lse[seen], products[1])


@pytest.mark.parametrize("name", RUNNING)
@settings(max_examples=100, deadline=None)
@given(case=cases(), seed=st.integers(0, 99))
def test_backends_and_their_gradients_agree_in_float64(name, case, seed):
    (q, k, v), mask, scale = case
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    if refuses(name, Inputs(q, k, v, mask, scale, needs_lse=True)):
        return
    allowed = None if mask is None else mask.materialize(q.shape[2], k.shape[2])
    exact, exact_lse = reference.partial_attention(q, k, v, allowed, scale=scale)
    seen = exact_lse > -torch.inf
    generator = torch.Generator().manual_seed(seed)
    of_out, of_lse = (torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in (exact, exact_lse))

    def gradients(out: Tensor, lse: Tensor | None) -> tuple[Tensor, ...]:
        loss = (out * of_out).sum()
        loss = loss if lse is None else loss + (lse * of_lse)[seen].sum()
        return torch.autograd.grad(loss, (q, k, v), retain_graph=True)

    out, lse = partial_attention(q, k, v, mask, scale=scale, backend=name)
    torch.testing.assert_close((out, lse), (exact, exact_lse))
    torch.testing.assert_close(gradients(out, lse), gradients(exact, exact_lse))
    out = attention(q, k, v, mask, scale=scale, backend=name)
    torch.testing.assert_close(out, exact)
    torch.testing.assert_close(gradients(out, None), gradients(exact, None))


@pytest.mark.parametrize("fault", ["scale", "shift", "cast"])
def test_the_comparison_finds_faults(fault):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 6, 8).unbind(0)
    exact, eager = reference.attention(q.double(), k.double(), v.double()), reference.attention(q, k, v)
    wrong = {
        "scale": lambda: reference.attention(q, k, v, scale=1.01 * 8**-0.5),
        "shift": lambda: reference.attention(q, k, v.roll(1, dims=2)),
        "cast": lambda: reference.attention(q.bfloat16(), k.bfloat16(), v.bfloat16()).float(),
    }[fault]()
    with pytest.raises(AssertionError, match="exceeds"):
        assert_close_to_reference(wrong, eager, exact, v)


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_reference_is_softmax(case):
    (q, k, v), mask, scale = case
    groups = q.shape[1] // k.shape[1]
    allowed = (mask or Full()).materialize(q.shape[2], k.shape[2])
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k.repeat_interleave(groups, 1)) * (
        scale or q.shape[-1] ** -0.5
    )
    weights = torch.where(allowed, scores, -torch.inf).softmax(-1).nan_to_num(0)
    expected = torch.einsum("bhqk,bhkd->bhqd", weights, v.repeat_interleave(groups, 1))
    torch.testing.assert_close(reference.attention(q, k, v, allowed, scale=scale), expected)


@settings(max_examples=40, deadline=None)
@given(case=cases(), seed=st.integers(0, 99))
def test_order_of_keys_does_not_matter(case, seed):
    (q, k, v), _, scale = case
    order = torch.randperm(k.shape[2], generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        attention(q, k[:, :, order], v[:, :, order], scale=scale), attention(q, k, v, scale=scale)
    )


@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_masking_a_key_is_cutting_it(case):
    (q, k, v), _, _ = case
    keep = torch.ones(q.shape[0], k.shape[2] + 1, dtype=torch.bool)
    keep[:, -1] = False
    longer = [torch.cat([x, torch.full_like(x[:, :, :1], 1e3)], dim=2) for x in (k, v)]
    torch.testing.assert_close(attention(q, *longer, Padding(keep)), attention(q, k, v))


@settings(max_examples=40, deadline=None)
@given(case=cases(), cut=st.integers(0, 9))
def test_merged_parts_are_the_whole(case, cut):
    (q, k, v), mask, scale = case
    allowed = (
        (mask or Full()).materialize(q.shape[2], k.shape[2]).expand(q.shape[0], 1, q.shape[2], k.shape[2])
    )
    parts = [
        reference.partial_attention(q, k[:, :, part], v[:, :, part], allowed[..., part], scale=scale)
        for part in (slice(0, cut), slice(cut, None))
    ]
    whole, lse = reference.partial_attention(q, k, v, allowed, scale=scale)
    out, merged_lse = merge_partials(parts)
    torch.testing.assert_close(out, whole)
    torch.testing.assert_close(merged_lse, lse)


@pytest.mark.parametrize("name", [name for name in RUNNING if name != "xformers"])
def test_query_without_keys_gets_zeros_and_finite_gradients(name):
    x = torch.randn(2, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    keep = torch.tensor([[False] * 3, [True, False, True]])
    with use_backend(name):
        out = attention(x, x, x, Padding(keep))
    out.square().sum().backward()
    assert out[0].abs().max() == 0
    assert out[1].abs().max() > 0
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.parametrize("mask", [None, Causal()])
def test_dropout_drops_weights_and_keeps_the_mean(name, mask):
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 2, 6, 8).unbind(0)
    v = torch.eye(6).expand(1, 2, 6, 6)  # so that the output is the weights
    weights = attention(q, k, v, mask, backend=name)
    drawn = torch.stack([attention(q, k, v, mask, dropout=0.4, backend=name) for _ in range(400)])
    kept = drawn != 0
    torch.testing.assert_close(drawn[kept], (weights / 0.6).expand_as(drawn)[kept])
    seen = weights > 0
    assert abs(kept[:, seen].float().mean() - 0.6) < 0.01
    assert not kept[:, ~seen].any()
    assert torch.equal(attention(q, k, v, mask, dropout=0.0, backend=name), weights)


def test_dropout_in_parts_is_refused_by_kernels_and_honoured_all_the_same():
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 2, 6, 8).unbind(0)
    v = torch.eye(6).expand(1, 2, 6, 6)
    tree = PrefixTree.single(2, (2, 2))
    with pytest.raises(ConfigError, match="sdpa: attention in parts has no dropout"):
        attention(q, k, v, tree, dropout=0.5, backend="sdpa")
    with pytest.raises(ConfigError, match="a probability below 1"):
        attention(q, k, v, dropout=1.5)
    weights = attention(q, k, v, tree)
    drawn = torch.stack([attention(q, k, v, tree, dropout=0.4) for _ in range(400)])
    kept = drawn != 0
    torch.testing.assert_close(drawn[kept], (weights / 0.6).expand_as(drawn)[kept])
    assert abs(kept[:, weights > 0].float().mean() - 0.6) < 0.01


def test_dropout_in_parts_builds_no_dense_mask(monkeypatch):
    monkeypatch.setattr(PrefixTree, "materialize", lambda *_: pytest.fail("a dense mask was built"))
    x = torch.randn(1, 2, 6, 8)
    attention(x, x, x, PrefixTree.single(2, (2, 2)), dropout=0.5)


def test_dropout_in_parts_has_the_gradients_of_what_was_drawn():
    tree = PrefixTree.single(2, (2, 3))
    q, k, v = (torch.randn(1, n, 7, 2, dtype=torch.float64, requires_grad=True) for n in (2, 1, 1))

    def run(*inputs: Tensor) -> Tensor:
        torch.manual_seed(1)
        return attention(*inputs, tree, dropout=0.5)

    assert torch.autograd.gradcheck(run, (q, k, v))


def test_what_falls_into_no_blocks_is_left_to_the_reference():
    x = torch.randn(1, 2, 4, 8)
    mixed = TokenTree((-1, 0, 0, 1)) & Sliding(3)  # children of 0 and 1 alternate
    with pytest.raises(ConfigError, match="sdpa: mask Both does not fall into blocks"):
        attention(x, x, x, mixed, backend="sdpa")
    exact = reference.attention(x, x, x, mixed.materialize(4, 4))
    torch.testing.assert_close(attention(x, x, x, mixed), exact)
    attention(x, x, x, TokenTree((-1, 0, 1, 0)) & Sliding(3), backend="sdpa")


def test_gradients():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    none = torch.zeros(3, 1, dtype=torch.bool)

    def merged(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        first = reference.partial_attention(q, k[:, :, :1], v[:, :, :1], none)  # contributes nothing
        second = reference.partial_attention(q, k[:, :, 1:], v[:, :, 1:], Causal().materialize(3, 2))
        return merge_partials([first, second])[0]

    assert torch.autograd.gradcheck(
        lambda q, k, v: reference.attention(q, k, v, Causal().materialize(3, 3)), (q, k, v)
    )
    assert torch.autograd.gradcheck(merged, (q, k, v))


def test_shapes_and_dtypes_that_do_not_fit():
    x = torch.randn(1, 4, 3, 8)
    with pytest.raises(ConfigError, match=r"cannot combine these shapes\n  given: .*k \(1, 3, 3, 8\)"):
        attention(x, x[:, :3], x[:, :3])
    with pytest.raises(ConfigError, match="one floating dtype"):
        attention(x, x.half(), x)


def test_a_backend_that_cannot_says_why():
    x = torch.randn(1, 2, 3, 8)
    with use_backend("sdpa"), pytest.raises(ConfigError, match="sdpa: a tensor is empty"):
        attention(x, x[:, :, :0], x[:, :, :0])
    if "xformers" not in RUNNING:
        with use_backend("xformers"), pytest.raises(ConfigError, match=r"xformers: .*(installed|CUDA)"):
            attention(x, x, x)


def test_choice_of_backend_ends_with_its_block():
    x = torch.randn(1, 2, 3, 8)
    with use_backend("eager"), use_backend("sdpa"):
        pass
    partial_attention(x, x, x)  # the default finds one that can
    with pytest.raises(ConfigError, match="unknown attention backend 'flash9'"), use_backend("flash9"):
        pass
    assert set(backend_report()) == set(backend_names())
    assert backend_report()["eager"] == []
