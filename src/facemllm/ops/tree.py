"""Attention of branches to trunks whose keys and values are in a cache: a tree in inference."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facemllm.core.errors import ConfigError
from facemllm.ops.attention import partial_attention
from facemllm.ops.masks import BlockDiagonal, Causal, Mask
from facemllm.ops.reference import merge_partials
from facemllm.ops.split import merge_rows


def prefix_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefixes: Sequence[tuple[Tensor, Tensor]],
    branches: Sequence[Sequence[int]],
    own: Mask | None = None,
    *,
    scale: float | None = None,
    backend: str | None = None,
) -> Tensor:
    """Attend from branches to the cached trunk of their tree and to their own tokens.

    The same as ``attention`` with a ``PrefixTree`` over everything, for the rows of the branches. Their
    tokens come in one of two layouts:

    - packed, B = 1: the branches of the first tree end to end, then those of the second, and so on;
    - one branch a row, B of them, those of the first tree first: as when they are decoded together.

    Args:
        q: Queries of the branches [B, H, Q, D].
        k: Their own keys [B, G, K, D]; K may differ from Q if ``own`` says which query sees which key.
        v: Their own values [B, G, K, Dv].
        prefixes: For each tree, keys and values of its trunk [1, G, T, D] and [1, G, T, Dv]; T may be 0.
        branches: For each tree, the number of queries of each of its branches; together B * Q.
        own: Which query sees which own key, over [B, H, Q, K]. If left out every branch is causal in itself,
            which needs its keys to be as many as its queries. Decoding passes
            ``Padding(keep)`` over its padded caches, options with common beginnings a ``TokenTree``.
        scale: ``D ** -0.5`` if left out.
        backend: As in ``attention``.

    Returns:
        [B, H, Q, Dv]

    Raises:
        ConfigError: If there are not as many prefixes as trees, the branches do not add up, or, one a row,
            have not the length of a row.

    Example:
        >>> from facemllm.ops import PrefixTree, attention
        >>> x = torch.randn(1, 2, 7, 8)
        >>> trunk, rest = x[:, :, :4], x[:, :, 4:]
        >>> out = prefix_attention(rest, rest, rest, [(trunk, trunk)], [(1, 2)])
        >>> torch.allclose(out, attention(x, x, x, PrefixTree.single(4, (1, 2)))[:, :, 4:], atol=1e-6)
        True
    """
    counts = [sum(tree) for tree in branches]
    if len(prefixes) != len(counts) or sum(counts) != q.shape[0] * q.shape[2]:
        raise ConfigError(
            "prefixes, branches and queries do not fit together",
            given=f"{len(prefixes)} prefixes, branches of {counts} tokens, queries {tuple(q.shape)}",
            expected="a prefix for each tree, and B * Q tokens in all branches",
            do="pass one (k, v) a tree and the lengths of its branches",
        )
    if any(not isinstance(prefix, Sequence) or len(prefix) != 2 for prefix in prefixes):
        raise ConfigError(
            "a prefix is not the keys and values of a trunk",
            given=", ".join(type(prefix).__name__ for prefix in prefixes),
            expected="a pair (k, v) for each tree",
            do="pass [(k, v)] for one tree",
        )
    flat = tuple(length for tree in branches for length in tree)
    if min(flat, default=0) < 0 or (q.shape[0] > 1 and flat != (q.shape[2],) * q.shape[0]):
        raise ConfigError(
            "branches do not lie in these rows",
            given=f"branches of {list(flat)} tokens, queries {tuple(q.shape)}",
            expected="all in one row end to end, or B branches of Q tokens each, one a row",
            do="pad the branches to one length, with own=Padding(keep); or pack them into one row",
        )
    if own is None:
        own = BlockDiagonal(flat, causal=True) if q.shape[0] == 1 else Causal()
    parts = [partial_attention(q, k, v, own, scale=scale, backend=backend)]
    flat_q = q.transpose(0, 1).flatten(1, 2)[None]  # [1, H, B * Q, D]
    seen = [
        partial_attention(rows, *prefix, scale=scale, backend=backend)
        for rows, prefix in zip(flat_q.split(counts, dim=2), prefixes, strict=True)
    ]
    if seen:
        out, lse = (torch.cat(tensors, dim=2)[0] for tensors in zip(*seen, strict=True))  # [H, B * Q, ...]
        shape = (q.shape[0], q.shape[2])
        parts.append((out.unflatten(1, shape).transpose(0, 1), lse.unflatten(1, shape).transpose(0, 1)))
    tensors = [x for part in parts for x in part]
    if len(parts) == 2 and not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors)):
        return merge_rows(*parts[0], *parts[1])[0]  # the same in fewer steps
    return merge_partials(parts)[0]
