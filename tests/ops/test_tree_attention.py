"""Many branches on one trunk, in one pass: equal to separate sequences, in values and gradients.

The checkers take any function that attends under a tree. They are run on every backend, and on functions with
a planted fault, which they have to find.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from facemllm.core.errors import ConfigError
from facemllm.ops import (
    BlockDiagonal,
    Causal,
    Padding,
    PrefixTree,
    TokenTree,
    attention,
    backend_report,
    merge_partials,
    partial_attention,
    prefix_attention,
    reference,
    rotary,
    use_backend,
)

RUNNING = [name for name, reasons in backend_report().items() if not reasons]
Attend = Callable[[Tensor, Tensor, Tensor, PrefixTree], Tensor]


class Case(NamedTuple):
    q: Tensor
    k: Tensor
    v: Tensor
    tree: PrefixTree


def make_case(tree: PrefixTree, *, seed: int = 0, batch: int = 1, heads: int = 4, groups: int = 2) -> Case:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, n, tree.length, 8) for n in (heads, groups, groups)]
    return Case(*(torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes), tree)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    lengths = st.integers(0, 6)
    trunks = draw(st.lists(lengths, min_size=1, max_size=3))
    branches = [draw(st.lists(lengths, max_size=4)) for _ in trunks]
    branches[0] = [*branches[0], draw(st.integers(1, 4))]  # so that there is something
    tree = PrefixTree(tuple(trunks), tuple(map(tuple, branches)))
    groups = draw(st.integers(1, 2))
    heads = groups * draw(st.integers(1, 2))
    return make_case(
        tree, seed=draw(st.integers(0, 999)), batch=draw(st.integers(1, 2)), heads=heads, groups=groups
    )


def attend_with(backend: str, q: Tensor, k: Tensor, v: Tensor, tree: PrefixTree) -> Tensor:
    """What a layer of a model does: positions, then attention."""
    positions = tree.positions()
    return attention(rotary(q, positions), rotary(k, positions), v, tree, backend=backend)


def separately(q: Tensor, k: Tensor, v: Tensor, tree: PrefixTree) -> Tensor:
    """Each trunk with each branch as a sequence of its own, by the reference; [B, H, L, D] again."""
    out = q.new_zeros(*q.shape[:3], v.shape[-1])
    for (start, end), branches in zip(tree.trunk_spans(), tree.spans(), strict=True):
        for a, b in [(end, end), *branches]:
            rows = torch.tensor([*range(start, end), *range(a, b)], dtype=torch.long)
            of_q, of_k, of_v = (x[:, :, rows] for x in (q, k, v))
            positions = torch.arange(len(rows))
            causal = Causal().materialize(len(rows), len(rows))
            alone = reference.attention(rotary(of_q, positions), rotary(of_k, positions), of_v, causal)
            new = rows[end - start :] if b > a else rows  # the trunk is read once
            out = out.index_copy(2, new, alone[:, :, len(rows) - len(new) :])
    return out


# --- checkers


def check_values(attend: Attend, case: Case) -> None:
    """Equal to separate sequences in float64."""
    q, k, v, tree = case
    torch.testing.assert_close(attend(q, k, v, tree), separately(q, k, v, tree))


def check_precision(attend: Attend, case: Case, dtype: torch.dtype = torch.float32) -> None:
    """In a lower precision at most twice as far from float64 as plain torch, and one ulp."""
    q, k, v = (x.to(dtype) for x in case[:3])
    exact = separately(q.double(), k.double(), v.double(), case.tree)
    eager = separately(q, k, v, case.tree)
    error = (attend(q, k, v, case.tree).double() - exact).abs().max()
    bound = 2 * (eager.double() - exact).abs().max() + torch.finfo(dtype).eps * v.double().abs().max()
    assert error <= bound, f"error {error:.3g} exceeds {bound:.3g}"


def check_gradients(attend: Attend, case: Case) -> None:
    """Gradients of queries, keys and values, of trunk and branches, equal to those of separate sequences."""
    inputs = [x.clone().requires_grad_() for x in case[:3]]
    weights = torch.cos(torch.arange(case.q.numel(), dtype=torch.float64)).view(case.q.shape)

    def gradients(of: Attend) -> tuple[Tensor, ...]:
        return torch.autograd.grad((of(*inputs, case.tree) * weights).sum(), inputs)

    torch.testing.assert_close(gradients(attend), gradients(separately))


def check_independence(attend: Attend, case: Case) -> None:
    """What is in one branch changes nothing in another, in values and in gradients, to the last bit."""
    spans = [span for tree in case.tree.spans() for span in tree]
    for a, b in spans:
        changed = [x.clone() for x in case[:3]]
        for x in changed:
            x[:, :, a:b] = 100 * x[:, :, a:b].flip(-1) + 7
        before, after = ([x.clone().requires_grad_() for x in xs] for xs in (case[:3], changed))
        first, second = attend(*before, case.tree), attend(*after, case.tree)
        others = [span for span in spans if span != (a, b)]
        for c, d in others:
            assert torch.equal(first[:, :, c:d], second[:, :, c:d]), f"branch {a}:{b} changes {c}:{d}"
        # All outputs but those of branch a:b are asked for their gradients at each other branch.
        keep = torch.ones(case.q.shape[2], dtype=torch.bool)
        keep[a:b] = False
        grads = [
            torch.autograd.grad(out[:, :, keep].square().sum(), xs)
            for out, xs in ((first, before), (second, after))
        ]
        for of_first, of_second in zip(*grads, strict=True):
            assert of_first[:, :, a:b].abs().sum() == 0, f"gradients of others reach branch {a}:{b}"
            for c, d in others:
                assert torch.equal(of_first[:, :, c:d], of_second[:, :, c:d]), f"{a}:{b} changes gradients"


def check_causality(attend: Attend, case: Case) -> None:
    """The last token of a branch changes nothing before it."""
    first = attend(*case)
    for a, b in (span for tree in case.tree.spans() for span in tree):
        changed = [x.clone() for x in case[:3]]
        for x in changed:
            x[:, :, b - 1 : b] += 5 * (b > a)
        second = attend(*changed, case.tree)
        torch.testing.assert_close(first[:, :, a : b - 1], second[:, :, a : b - 1], rtol=0, atol=0)


def check_cut(attend: Attend, case: Case) -> None:
    """A branch cut out of the pack leaves the others as they are."""
    full = attend(*case)
    for index, tree in enumerate(case.tree.spans()):
        for number, (a, b) in enumerate(tree):
            rows = torch.tensor([i for i in range(case.tree.length) if not a <= i < b], dtype=torch.long)
            branches = list(case.tree.branches)
            branches[index] = (*branches[index][:number], *branches[index][number + 1 :])
            less = PrefixTree(case.tree.trunks, tuple(branches))
            if less.length == 0:
                continue
            found = attend(*(x[:, :, rows] for x in case[:3]), less)
            torch.testing.assert_close(found, full[:, :, rows])


def check_order(attend: Attend, case: Case) -> None:
    """Branches and trees in another order give the same, in that order."""
    order: list[int] = []
    for (start, end), branches in reversed(
        list(zip(case.tree.trunk_spans(), case.tree.spans(), strict=True))
    ):
        order += range(start, end)
        order += [i for a, b in reversed(branches) for i in range(a, b)]
    turned = PrefixTree(
        case.tree.trunks[::-1], tuple(tuple(reversed(branches)) for branches in reversed(case.tree.branches))
    )
    rows = torch.tensor(order, dtype=torch.long)
    found = attend(*(x[:, :, rows] for x in case[:3]), turned)
    torch.testing.assert_close(found, attend(*case)[:, :, rows])


CHECKERS = {
    "values": check_values,
    "precision": check_precision,
    "gradients": check_gradients,
    "independence": check_independence,
    "causality": check_causality,
    "cut": check_cut,
    "order": check_order,
}


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.parametrize("check", CHECKERS.values(), ids=CHECKERS)
@settings(max_examples=25, deadline=None)
@given(case=cases())
def test_trees(name, check, case):
    check(partial(attend_with, name), case)


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_over_a_pack(name, dtype):
    tree = PrefixTree((33, 70), ((1, 16, 0, 7), (5, 5, 5)))
    check_precision(partial(attend_with, name), make_case(tree, heads=6, groups=3), dtype)


# --- planted faults


def faulty(fault: str, q: Tensor, k: Tensor, v: Tensor, tree: PrefixTree) -> Tensor:
    """Attend by the reference with a dense mask, with one thing wrong."""
    allowed, positions = tree.materialize(tree.length, tree.length), tree.positions()
    scale = q.shape[-1] ** -0.5
    branches = [span for of_tree in tree.spans() for span in of_tree if span[1] > span[0]]
    if fault == "causal ignored":
        for a, b in branches:
            allowed[a:b, a:b] = True
    elif fault == "scale off by 1 %":
        scale *= 1.01
    elif fault == "position off by one":
        for a, b in branches[1:]:
            positions[a:b] += 1
    elif fault == "sees its neighbour":
        for (a, b), (c, d) in zip(branches[1:], branches[:-1], strict=True):
            allowed[a:b, c:d] = True
    turned = rotary(q, positions), rotary(k, positions)
    return reference.attention(*turned, v, allowed, scale=scale)


FAULTS = ["causal ignored", "scale off by 1 %", "position off by one", "sees its neighbour"]
# The first three compare with separate sequences and must find every fault. The others look at one property
# each, and a fault that keeps the property is not theirs to find.
FINDS = {
    "values": FAULTS,
    "precision": FAULTS,
    "gradients": FAULTS,
    "independence": ["sees its neighbour"],
    "causality": ["causal ignored"],
    "cut": ["sees its neighbour", "position off by one"],
    "order": ["sees its neighbour", "position off by one"],
}
FAULT_CASE = make_case(PrefixTree((5, 3), ((4, 3), (2, 4))))


@pytest.mark.parametrize(("checker", "fault"), [(name, fault) for name in FINDS for fault in FINDS[name]])
def test_checkers_find_planted_faults(checker, fault):
    CHECKERS[checker](partial(faulty, "none"), FAULT_CASE)
    with pytest.raises(AssertionError):
        CHECKERS[checker](partial(faulty, fault), FAULT_CASE)


# --- gradients, extremes


@pytest.mark.parametrize("name", [name for name in RUNNING if name != "xformers"])
@pytest.mark.parametrize("wanted", ["output", "both"])
def test_gradcheck_of_attention_in_parts(name, wanted):
    tree = PrefixTree((2, 0), ((2, 1), (2,)), ((0, 2), (0, 0)))
    inputs = tuple(x.clone().requires_grad_() for x in make_case(tree, heads=2, groups=1)[:3])
    run = partial_attention if wanted == "both" else attention
    assert torch.autograd.gradcheck(lambda q, k, v: run(q, k, v, tree, backend=name), inputs)


def test_gradcheck_finds_gradients_of_unmerged_parts():
    """Without the merged log-sum-exp in backward, gradients are wrong: the check of them is not empty."""
    q, k, v = (x.clone().requires_grad_() for x in make_case(PrefixTree.single(3, (2,)), heads=2)[:3])

    def unmerged(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = [partial_attention(q, k[:, :, part], v[:, :, part]) for part in (slice(0, 3), slice(3, 5))]
        return merge_partials([(out, lse.detach()) for out, lse in parts])[0]

    with pytest.raises(GradcheckError):
        torch.autograd.gradcheck(unmerged, (q, k, v))


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-30, 1e2, 1e4])
def test_extreme_scores_give_no_nan(name, dtype, size):
    q, k, v, tree = make_case(PrefixTree((3, 0), ((2, 1, 0), (3, 1))))
    inputs = [(x * factor).to(dtype).requires_grad_() for x, factor in ((q, size), (k, size), (v, 1))]
    out, lse = partial_attention(*inputs, tree, backend=name)
    (out.square().sum() + lse.sum()).backward()
    assert out.isfinite().all()
    assert lse.isfinite().all()
    assert out.abs().max() <= v.abs().max() * 1.01
    assert all(x.grad.isfinite().all() for x in inputs)


@pytest.mark.parametrize("name", [name for name in RUNNING if name != "xformers"])
@pytest.mark.parametrize("trunk", [0, 3])
def test_a_branch_that_is_not_a_number_spoils_no_other(name, trunk):
    tree = PrefixTree.single(trunk, (2, 5, 3, 1))
    for a, b in tree.spans()[0]:
        inputs = [x.clone() for x in make_case(tree)[:3]]
        clean = attention(*inputs, tree, backend=name)
        for x in inputs:
            x[:, :, a:b] = torch.nan
            x.requires_grad_()
        others = torch.tensor([i for i in range(tree.length) if not a <= i < b])
        out = attention(*inputs, tree, backend=name)
        assert torch.equal(out[:, :, others], clean[:, :, others])
        out[:, :, others].sum().backward()
        others = others[others >= trunk]  # a trunk's gradient is a sum over all branches
        assert all(x.grad[:, :, others].isfinite().all() for x in inputs)


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.parametrize(
    "tree",
    [
        PrefixTree((), ()),
        PrefixTree.single(0, ()),
        PrefixTree.single(0, (0, 0)),
        PrefixTree.single(1, ()),
        PrefixTree.single(0, (1,)),
        PrefixTree.single(3, (0, 1, 0, 1)),
        PrefixTree((0, 0, 4), ((1,), (), (0,))),
    ],
)
def test_empty_and_one_token_branches(name, tree):
    if tree.length == 0 and name != "eager":
        with pytest.raises(ConfigError, match="a tensor is empty"):
            attend_with(name, *make_case(tree))
        return
    check_values(partial(attend_with, name), make_case(tree))
    if tree.length:
        check_gradients(partial(attend_with, name), make_case(tree))


@pytest.mark.parametrize("name", RUNNING)
def test_bidirectional_trunk(name):
    tree = PrefixTree((5, 4), ((2, 3), (1,)), ((1, 4), (0, 4)))
    q, k, v, _ = make_case(tree)
    exact = reference.attention(q, k, v, tree.materialize(tree.length, tree.length))
    torch.testing.assert_close(attention(q, k, v, tree, backend=name), exact)
    causal = attention(q, k, v, PrefixTree(tree.trunks, tree.branches), backend=name)
    assert not torch.allclose(causal[:, :, 1:3], exact[:, :, 1:3])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.permutations(range(4)), st.integers(1, 3))
def test_merging_is_associative_and_knows_no_order(seed, order, cut):
    q, k, v, _ = make_case(PrefixTree.single(8, ()), seed=seed, groups=4)
    sight = (
        torch.rand(8, 8, generator=torch.Generator().manual_seed(seed)) < 0.4
    )  # some see nothing in a part
    spans = [slice(i, i + 2) for i in range(0, 8, 2)]
    parts = [reference.partial_attention(q, k[:, :, s], v[:, :, s], sight[:, s]) for s in spans]
    whole = reference.partial_attention(q, k, v, sight)
    mixed = [parts[i] for i in order]
    nested = merge_partials([merge_partials(mixed[:cut]), merge_partials(mixed[cut:])])
    for found in (merge_partials(mixed), nested):
        torch.testing.assert_close(found, whole)


# --- cached trunks


@st.composite
def cached(draw: st.DrawFn) -> tuple[Case, str | None]:
    return draw(cases()), draw(st.sampled_from([None, *RUNNING]))


def rows_of(tree: PrefixTree) -> Tensor:
    return torch.tensor([i for of_tree in tree.spans() for a, b in of_tree for i in range(a, b)])


@settings(max_examples=50, deadline=None)
@given(cached())
def test_cached_trunks_give_what_the_whole_tree_gives(given_case):
    (q, k, v, tree), _ = given_case
    q, k, v = q[:1], k[:1], v[:1]
    rows = rows_of(tree)
    prefixes = [(k[:, :, a:b], v[:, :, a:b]) for a, b in tree.trunk_spans()]
    whole = attention(q, k, v, tree)[:, :, rows]
    found = prefix_attention(q[:, :, rows], k[:, :, rows], v[:, :, rows], prefixes, tree.branches)
    torch.testing.assert_close(found, whole)


@pytest.mark.parametrize("name", [None, *RUNNING])
def test_decoding_a_token_of_every_branch_together(name):
    tree = PrefixTree((4, 2), ((3, 1, 5), (2,)))
    q, k, v, _ = make_case(tree)
    whole = attention(q, k, v, tree)
    spans = [span for of_tree in tree.spans() for span in of_tree]
    longest = max(b - a for a, b in spans)
    own_k, own_v = (torch.full((4, 2, longest, 8), 1e3, dtype=torch.float64) for _ in range(2))
    keep = torch.zeros(4, longest, dtype=torch.bool)
    for row, (a, b) in enumerate(spans):  # the last token's cache, padded on the left as caches that grow are
        own_k[row, :, longest - (b - a) :], own_v[row, :, longest - (b - a) :] = k[0, :, a:b], v[0, :, a:b]
        keep[row, longest - (b - a) :] = True
    last = torch.stack([q[0, :, b - 1 : b] for _, b in spans])
    prefixes = [(k[:, :, a:b], v[:, :, a:b]) for a, b in tree.trunk_spans()]
    found = prefix_attention(last, own_k, own_v, prefixes, [(1, 1, 1), (1,)], Padding(keep), backend=name)
    torch.testing.assert_close(found, torch.stack([whole[0, :, b - 1 : b] for _, b in spans]))


def test_one_branch_a_row_is_causal_by_itself():
    tree = PrefixTree.single(3, (4, 4))
    q, k, v, _ = make_case(tree)
    rows = [x[0, :, 3:].unflatten(1, (2, 4)).transpose(0, 1) for x in (q, k, v)]
    found = prefix_attention(*rows, [(k[:, :, :3], v[:, :, :3])], [(4, 4)])
    whole = attention(q, k, v, tree)
    torch.testing.assert_close(found, whole[0, :, 3:].unflatten(1, (2, 4)).transpose(0, 1))


def test_options_that_begin_alike_share_their_beginning():
    """Options 'a b c', 'a b d' and 'a e' after one trunk: as a tree of tokens, and one by one."""
    parents, paths = (-1, 0, 1, 1, 0), [[0, 1, 2], [0, 1, 3], [0, 4]]
    options = TokenTree(parents)
    assert options.positions().tolist() == [0, 1, 2, 2, 1]
    q, k, v, _ = make_case(PrefixTree.single(3, (5,)))
    trunk = (k[:, :, :3], v[:, :, :3])
    found = prefix_attention(q[:, :, 3:], k[:, :, 3:], v[:, :, 3:], [trunk], [(5,)], options)
    for path in paths:
        rows = torch.tensor([0, 1, 2, *(3 + i for i in path)])
        alone = attention(q[:, :, rows], k[:, :, rows], v[:, :, rows], Causal())
        torch.testing.assert_close(found[:, :, path], alone[:, :, 3:])


def test_cached_trunks_have_gradients():
    tree = PrefixTree.single(2, (2, 1))
    q, k, v = (x.clone().requires_grad_() for x in make_case(tree, heads=2)[:3])
    out = prefix_attention(q[:, :, 2:], k[:, :, 2:], v[:, :, 2:], [(k[:, :, :2], v[:, :, :2])], tree.branches)
    wanted = torch.autograd.grad(attention(q, k, v, tree)[:, :, 2:].square().sum(), (q, k, v))
    torch.testing.assert_close(torch.autograd.grad(out.square().sum(), (q, k, v)), wanted)


def test_prefixes_and_branches_that_do_not_fit():
    x = torch.randn(1, 2, 5, 8)
    with pytest.raises(ConfigError, match="given:    1 prefixes, branches of \\[2, 2\\] tokens"):
        prefix_attention(x, x, x, [(x, x)], [(2,), (2,)])


def test_a_backend_chosen_for_a_block_computes_trees():
    q, k, v, tree = make_case(PrefixTree.single(4, (2, 3)))
    with use_backend("eager"):
        eager = attention(q, k, v, tree)
    torch.testing.assert_close(attention(q, k, v, tree, backend="sdpa"), eager)


def test_packed_sequences_are_separate():
    q, k, v, _ = make_case(PrefixTree.single(10, ()))
    mask = BlockDiagonal((3, 0, 5, 2), (4, 1, 2, 3))
    found = attention(q, k, v, mask)
    for (a, b), (c, d) in (((0, 3), (0, 4)), ((3, 8), (5, 7)), ((8, 10), (7, 10))):
        torch.testing.assert_close(found[:, :, a:b], attention(q[:, :, a:b], k[:, :, c:d], v[:, :, c:d]))
