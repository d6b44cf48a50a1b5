"""Masks, the blocks they fall into, and the parts in which these are computed, against their dense form."""

from __future__ import annotations

from dataclasses import replace

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
)
from facemllm.ops.blocks import CAUSAL, DENSE, REVERSED, Block, blocks
from facemllm.ops.parts import Plan, Rows, make_plan

CPU = torch.device("cpu")


@st.composite
def trees(draw: st.DrawFn) -> PrefixTree:
    lengths = st.integers(0, 5)
    trunks = draw(st.lists(lengths, min_size=1, max_size=3))
    branches = [tuple(draw(st.lists(lengths, max_size=4))) for _ in trunks]
    spans = [tuple(sorted((draw(st.integers(0, n)), draw(st.integers(0, n))))) for n in trunks]
    return PrefixTree(tuple(trunks), tuple(branches), draw(st.sampled_from([None, tuple(spans)])))


@st.composite
def block_masks(draw: st.DrawFn) -> tuple[Mask | None, int, int]:
    queries, keys = draw(st.integers(0, 14)), draw(st.integers(0, 14))
    kind = draw(st.sampled_from(["none", "full", "causal", "sliding", "blocks", "tree"]))
    if kind == "tree":
        tree = draw(trees())
        return tree, tree.length, tree.length
    if kind == "blocks":
        pairs = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=5))
        rows, cols = tuple(a for a, _ in pairs), tuple(b for _, b in pairs)
        return BlockDiagonal(rows, cols, causal=draw(st.booleans())), sum(rows), sum(cols)
    of_kind = {"none": None, "full": Full(), "causal": Causal(), "sliding": Sliding(draw(st.integers(1, 16)))}
    return of_kind[kind], queries, keys


def painted(found: list[Block], queries: int, keys: int) -> Tensor:
    """Count how many blocks allow each pair."""
    counts = torch.zeros(queries, keys, dtype=torch.int)
    for row, rows, key, cols, kind in found:
        block = torch.ones(rows, cols, dtype=torch.int)
        block = block.tril() if kind == CAUSAL else block.triu() if kind == REVERSED else block
        counts[row : row + rows, key : key + cols] += block
    return counts


def painted_parts(plan: Plan, queries: int, keys: int, batch: int = 1) -> Tensor:
    """Count how many parts allow each pair [B, Q, K], by what a kernel does with them."""
    counts = torch.zeros(batch, queries, keys, dtype=torch.int)
    for part in plan.parts:
        rows, cols = part.queries.index, part.keys.index
        allowed = torch.ones(rows.shape[0], rows.shape[1], cols.shape[1], dtype=torch.bool)
        if part.lengths is not None:
            whole = BlockDiagonal(*part.lengths, causal=part.causal).materialize(*allowed.shape[1:])
            allowed &= whole
        elif part.causal:
            allowed = allowed.tril()
        allowed = allowed if part.allowed is None else allowed & part.allowed[:, 0]
        padding = part.queries.padding()
        real = torch.ones(rows.shape, dtype=torch.bool) if padding is None else ~padding
        for of_rows, of_cols, of_allowed, of_real in zip(rows, cols, allowed, real, strict=True):
            q, k = (of_allowed & of_real[:, None]).nonzero().unbind(1)
            one = torch.ones(1, dtype=torch.int)
            counts[0].index_put_((of_rows[q], of_cols[k]), one, accumulate=True)
    counts[1:] = counts[0]
    return counts if plan.keep is None else counts * plan.keep.int()[:, None]


@settings(max_examples=300, deadline=None)
@given(block_masks())
def test_blocks_hold_every_allowed_pair_once(case):
    mask, queries, keys = case
    found = blocks(mask, queries, keys)
    assert all(block.rows == block.keys for block in found if block.kind in (CAUSAL, REVERSED))
    dense = (mask or Full()).materialize(queries, keys).int()
    assert torch.equal(painted(found, queries, keys), dense)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.booleans())
def test_what_two_masks_both_allow_falls_into_blocks(data, packed):
    """Each with each: bounded from both sides, cut off on every side, or nothing at all."""
    mask, queries, keys = data.draw(block_masks())
    others = [Causal(), Sliding(data.draw(st.integers(1, 6))), Full()]
    cut = data.draw(st.integers(0, min(queries, keys)))
    others.append(BlockDiagonal((cut, queries - cut), (keys - cut, cut), causal=data.draw(st.booleans())))
    if queries == keys:
        others.append(PrefixTree.single(cut, (1,) * (queries - cut)))
        others.append(BlockDiagonal((keys,)) & TokenTree(tuple(range(-1, keys - 1))))
    both = (mask or Full()) & data.draw(st.sampled_from(others))
    dense = both.materialize(queries, keys).int()
    assert torch.equal(painted(blocks(both, queries, keys), queries, keys), dense)
    plan = make_plan(both, queries, keys, CPU, packed=packed)
    assert torch.equal(painted_parts(plan, queries, keys)[0], dense)
    assert all(
        len(set(part.queries.index.flatten()[_real(part)].tolist())) == _real(part).sum()
        for part in plan.parts
    )


def _real(part):
    padding = part.queries.padding()
    return torch.ones(part.queries.index.numel(), dtype=torch.bool) if padding is None else ~padding.flatten()


@settings(max_examples=100, deadline=None)
@given(block_masks(), st.booleans())
def test_parts_hold_every_allowed_pair_once(case, packed):
    mask, queries, keys = case
    plan = make_plan(mask, queries, keys, CPU, packed=packed)
    dense = (mask or Full()).materialize(queries, keys).int()
    assert torch.equal(painted_parts(plan, queries, keys)[0], dense)


@pytest.mark.parametrize("window", [1, 2, 3, 5, 8])
@pytest.mark.parametrize(("queries", "keys"), [(12, 12), (7, 12), (12, 7)])
@pytest.mark.parametrize("packed", [True, False])
def test_parts_of_sliding_windows(window, queries, keys, packed):
    mask = Sliding(window)
    plan = make_plan(mask, queries, keys, CPU, packed=packed)
    assert torch.equal(painted_parts(plan, queries, keys)[0], mask.materialize(queries, keys).int())
    assert all(part.allowed is None or part.allowed.shape[2] == 1 for part in plan.parts)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-1, 9), min_size=1, max_size=10), st.integers(0, 99))
def test_parts_of_token_trees_and_padded_masks(parents, seed):
    tree = TokenTree(tuple(min(parent, i - 1) for i, parent in enumerate(parents)))
    length = len(parents)
    keep = torch.rand(3, length, generator=torch.Generator().manual_seed(seed)) < 0.5
    for mask in (tree, tree & Padding(keep), Padding(keep) & Sliding(2), Padding(keep) & Padding(keep)):
        counts = painted_parts(make_plan(mask, length, length, CPU), length, length, batch=3)
        assert torch.equal(counts.bool(), mask.materialize(length, length).expand(3, 1, length, length)[:, 0])


@st.composite
def token_trees(draw: st.DrawFn) -> TokenTree:
    """Trees of long chains with forks, in depth-first order or in another."""
    parents: list[int] = []
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(-1, len(parents) - 1))
        parents += [start, *range(len(parents), len(parents) + draw(st.integers(0, 120)))]
    return TokenTree(tuple(parents))


@settings(max_examples=40, deadline=None)
@given(token_trees(), st.booleans())
def test_large_token_trees_are_cut_at_their_forks(tree, packed):
    length = len(tree.parents)
    plan = make_plan(tree, length, length, CPU, packed=packed)
    assert torch.equal(painted_parts(plan, length, length)[0], tree.materialize(length, length).int())


def test_questions_that_begin_alike_need_no_mask_of_all_of_them():
    trunk, stem = list(range(-1, 599)), [599, 600, 601]
    questions = [[602, *range(603 + 9 * i, 603 + 9 * i + 8)] for i in range(128)]
    tree = TokenTree((*trunk, *stem, *(parent for own in questions for parent in own)))
    length = len(tree.parents)
    plan = make_plan(tree, length, length, CPU)
    assert sum(part.allowed.numel() for part in plan.parts if part.allowed is not None) < 0.01 * length**2
    computed = sum(part.queries.index.numel() * part.keys.index.shape[1] for part in plan.parts)
    assert computed < 0.7 * length**2
    assert len(plan.parts) == 3


def test_a_tree_too_deep_for_kernels_without_masks_is_refused():
    comb = TokenTree(
        (-1, 0, *(parent for i in range(2, 100, 2) for parent in (i - 2, i)))
    )  # leaves on a spine
    assert make_plan(comb, 100, 100, CPU, packed=True) is None
    counts = painted_parts(make_plan(comb, 100, 100, CPU), 100, 100)[0]
    assert torch.equal(counts, comb.materialize(100, 100).int())


def test_a_block_left_out_or_twice_is_noticed():
    tree = PrefixTree.single(3, (2, 2))
    dense, found = tree.materialize(7, 7).int(), blocks(tree, 7, 7)
    for wrong in (found[1:], [*found, found[0]], [found[0]._replace(kind=REVERSED), *found[1:]]):
        assert not torch.equal(painted(wrong, 7, 7), dense)
    plan = make_plan(tree, 7, 7, CPU)
    own = plan.parts[-1]
    for wrong_part in (replace(own, causal=False), replace(own, keys=Rows(own.keys.index - 1))):
        parts = (*plan.parts[:-1], wrong_part)
        assert not torch.equal(painted_parts(Plan(parts), 7, 7)[0], dense)


def test_no_part_of_a_tree_is_dense_where_the_tree_is_sparse():
    tree = PrefixTree((100, 50), ((4,) * 30, (1, 9, 16, 3)))
    plan = make_plan(tree, tree.length, tree.length, CPU)
    assert all(part.allowed is None for part in plan.parts)
    assert len(plan.parts) <= 7  # not one a branch
    computed = sum(part.queries.index.numel() * part.keys.index.shape[1] for part in plan.parts)
    assert computed < 0.5 * tree.length**2
    packed = make_plan(tree, tree.length, tree.length, CPU, packed=True)
    assert [part.causal for part in packed.parts] == [False, True]


def test_a_trunk_with_one_branch_is_one_sequence():
    assert blocks(PrefixTree.single(4, (0, 3)), 7, 7) == blocks(Causal(), 7, 7)
    tree = PrefixTree.single(4, (3,), (1, 3))
    assert [block.kind for block in blocks(tree, 7, 7)] == [CAUSAL, DENSE, CAUSAL]


@settings(max_examples=60, deadline=None)
@given(trees())
def test_a_tree_is_what_its_sequences_say(tree):
    """Each branch's rows, cut out with its trunk, are those of one sequence, and nothing else is seen."""
    allowed, positions = tree.materialize(tree.length, tree.length), tree.positions()
    seen = torch.zeros_like(allowed)
    spans = tree.bidirectional or ((0, 0),) * len(tree.trunks)
    for (start, end), branches, (first, last) in zip(tree.trunk_spans(), tree.spans(), spans, strict=True):
        for a, b in [*branches, (end, end)]:
            rows = torch.tensor([*range(start, end), *range(a, b)], dtype=torch.long)
            alone = torch.ones(len(rows), len(rows), dtype=torch.bool).tril()
            alone[first:last, first:last] = True
            assert torch.equal(allowed[rows[:, None], rows], alone)
            seen[rows[:, None], rows] |= alone
            assert positions[rows].tolist() == list(range(len(rows)))
    assert torch.equal(seen, allowed)


def test_sliding_window_counts_from_the_own_key():
    dense = Sliding(3).materialize(4, 6)
    assert dense.sum(1).tolist() == [3, 3, 3, 3]
    assert dense[-1].tolist() == [False, False, False, True, True, True]
    assert torch.equal(Sliding(9).materialize(4, 6), Causal().materialize(4, 6))


def test_region_sees_the_cells_whose_centres_are_inside():
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 0.5], [0.4, 0.6, 0.6, 0.9]]])
    seen = Region(boxes, 2, 3).materialize(2, 6)[0, 0].tolist()
    assert seen == [[True, True, True, False, False, False], [False, False, False, False, True, False]]


@pytest.mark.parametrize(
    "mask",
    [
        Padding(torch.ones(1, 4, dtype=torch.bool)),
        BlockDiagonal((2, 2)),
        BlockDiagonal((3,), (1, 2)),
        PrefixTree.single(2, (2,)),
        TokenTree((-1, 0)),
        Region(torch.ones(1, 2, 4), 1, 3),
        Region(torch.ones(1, 3), 1, 3),
    ],
)
def test_masks_refuse_other_lengths(mask):
    with pytest.raises(ConfigError, match="mask does not fit"):
        mask.materialize(3, 3)
    with pytest.raises(ConfigError, match="mask does not fit"):
        make_plan(mask, 3, 3, CPU)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PrefixTree((1, 2), ((1,),)), "given:    1 trees"),
        (lambda: PrefixTree.single(-1, (1,)), "lengths of 0 or more"),
        (lambda: PrefixTree.single(2, (1, -1)), "lengths of 0 or more"),
        (lambda: PrefixTree.single(2, (1,), (1, 3)), "bidirectional parts inside trunks"),
        (lambda: PrefixTree((2,), ((1,),), ((0, 1), (0, 1))), "2 bidirectional parts"),
        (lambda: TokenTree((0, -1)), "each parent -1 or an earlier token"),
        (lambda: TokenTree((-1, -2)), "each parent -1 or an earlier token"),
        (lambda: Sliding(0), "a window of 1 or more"),
        (lambda: Padding(torch.ones(1, 3)).materialize(3, 3), "Padding mask does not fit"),
    ],
)
def test_masks_that_make_no_sense_are_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
