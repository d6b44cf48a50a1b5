"""The specification: every op in plain torch, for any floating dtype and device.

Shapes: B batch, H heads, G heads of keys and values (H is a multiple of G), Q queries, K keys, D width of a
head. Other implementations are measured against these, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facemllm.core.errors import ConfigError


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    allowed: Tensor | None = None,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Return ``softmax(scale * q k^T) v`` over the allowed keys; a query without any gets zeros.

    Args:
        q: Queries [B, H, Q, D].
        k: Keys [B, G, K, D].
        v: Values [B, G, K, Dv].
        allowed: True where a query may see a key; broadcasts to [B, H, Q, K].
        scale: ``D ** -0.5`` if left out.
        dropout: Probability that a weight is set to zero (the others grow to make up for it).

    Returns:
        [B, H, Q, Dv]

    Source: Attention Is All You Need, arXiv 1706.03762, equation 1.

    Example:
        >>> q = k = v = torch.eye(2)[None, None]
        >>> attention(q, k, v, torch.eye(2, dtype=torch.bool))[0, 0].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    return partial_attention(q, k, v, allowed, scale=scale, dropout=dropout)[0]


def partial_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    allowed: Tensor | None = None,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return attention over these keys only, with what lets ``merge_partials`` join it to others.

    Returns:
        Output [B, H, Q, Dv] and the log of the sum of exponentials of the scores [B, H, Q], minus infinity
        for a query without keys. The latter is at least float32, as it is added up over many keys.
    """
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    lse = (
        torch.logsumexp(scores, dim=-1)
        if scores.shape[-1]
        else scores.new_full(scores.shape[:-1], float("-inf"))
    )
    # Without keys the scores are all -inf, and -inf - -inf is not a number: subtract 0 there, exp(-inf) is 0.
    weights = torch.exp(scores - lse.masked_fill(lse == float("-inf"), 0)[..., None])
    return torch.nn.functional.dropout(weights, dropout).to(v.dtype) @ v, lse


def merge_partials(partials: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Join attention over disjoint sets of keys into attention over all of them.

    Args:
        partials: Outputs [B, H, Q, Dv] and log-sum-exps [B, H, Q] of ``partial_attention``.

    Returns:
        Output and log-sum-exp over the union of the keys, shaped as those given.

    Raises:
        ConfigError: If there are none, or they are not of the same queries.

    Example:
        >>> q, k = torch.ones(1, 1, 1, 2), torch.eye(2)[None, None]
        >>> halves = [partial_attention(q, k[:, :, i : i + 1], k[:, :, i : i + 1]) for i in range(2)]
        >>> torch.allclose(merge_partials(halves)[0], attention(q, k, k))
        True
    """
    partials = list(partials)
    shapes = [[tuple(getattr(x, "shape", ())) for x in pair] for pair in partials]
    if not shapes or any(one != shapes[0] or len(one) != 2 or one[0][:-1] != one[1] for one in shapes):
        raise ConfigError(
            "there is nothing to merge" if not shapes else "these parts cannot be merged",
            given="; ".join(" and ".join(map(str, one)) for one in shapes) or "no parts",
            expected="one or more pairs of an output [B, H, Q, Dv] and a log-sum-exp [B, H, Q], all alike",
            do="pass a list of what partial_attention returned for the same queries",
        )
    lses = torch.stack([lse for _, lse in partials])
    total = _logsumexp(lses)
    weights = torch.exp(lses - total.masked_fill(total == float("-inf"), 0))
    merged = sum(weight[..., None] * out for weight, (out, _) in zip(weights, partials, strict=True))
    assert isinstance(merged, Tensor)
    return merged.to(partials[0][0].dtype), total


def rms_norm(x: Tensor, weight: Tensor, *, eps: float = 1e-6) -> Tensor:
    """Return ``x / rms(x) * weight``, the root mean square being over the last axis.

    Args:
        x: [..., D]
        weight: [D]
        eps: Added to the mean square.

    Source: Root Mean Square Layer Normalization, arXiv 1910.07467, equation 4.

    Example:
        >>> rms_norm(torch.tensor([3.0, 4.0]), torch.ones(2), eps=0.0)
        tensor([0.8485, 1.1314])
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


def rotary(x: Tensor, positions: Tensor, *, base: float = 10_000.0) -> Tensor:
    """Turn each pair (i, i + D/2) of ``x`` by ``positions * base ** (-2i / D)`` (half-split, as Llama).

    Args:
        x: Queries or keys [B, H, L, D], D even.
        positions: Position of each token, [L] or [B, L].
        base: Longest wavelength, over 2 pi.

    Source: RoFormer, arXiv 2104.09864, equation 34.

    Example:
        >>> rotary(torch.ones(1, 1, 1, 2), torch.zeros(1))
        tensor([[[[1., 1.]]]])
    """
    half = x.shape[-1] // 2
    wide = torch.promote_types(x.dtype, torch.float32)
    frequencies = base ** (-torch.arange(half, device=x.device, dtype=wide) / half)
    angles = positions.to(wide)[..., None] * frequencies
    angles = angles[:, None] if positions.dim() == 2 else angles
    first, second = x.to(wide).split(half, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Return ``silu(gate) * up``, the activation of a gated feed-forward layer.

    Source: GLU Variants Improve Transformer, arXiv 2002.05202, equation 6.

    Example:
        >>> swiglu(torch.zeros(1), torch.ones(1))
        tensor([0.])
    """
    return torch.nn.functional.silu(gate) * up


def swiglu_mlp(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Return ``swiglu(x gate^T, x up^T) down^T``.

    Args:
        x: [..., D]
        gate: [F, D]
        up: [F, D]
        down: [D, F]
    """
    return swiglu(x @ gate.mT, x @ up.mT) @ down.mT


def sample_points(grid: Tensor, points: Tensor) -> Tensor:
    """Read features between the four cells around a point, weighted by nearness.

    A point outside the centres of the border's cells is moved there.

    Args:
        grid: Features [B, D, h, w]; cell (i, j) has its centre at ((j + 0.5) / w, (i + 0.5) / h).
        points: x, y as fractions of the picture [B, P, 2].

    Returns:
        [B, P, D]

    Example:
        >>> sample_points(torch.arange(4.0).view(1, 1, 2, 2), torch.tensor([[[0.5, 0.25]]])).item()
        0.5
    """
    height, width = grid.shape[2:]
    size = torch.tensor([width, height], dtype=points.dtype, device=points.device)
    place = torch.minimum((points * size - 0.5).clamp(min=0), size - 1)
    low = place.floor()
    part = (place - low).to(grid.dtype)
    total = grid.new_zeros(*points.shape[:2], grid.shape[1])
    item = torch.arange(grid.shape[0], device=grid.device)[:, None]
    for right in (0, 1):
        for below in (0, 1):
            column = (low[..., 0].long() + right).clamp(max=width - 1)
            row = (low[..., 1].long() + below).clamp(max=height - 1)
            near_x = part[..., 0] if right else 1 - part[..., 0]
            near_y = part[..., 1] if below else 1 - part[..., 1]
            total = total + (near_x * near_y)[..., None] * grid[item, :, row, column]
    return total


def region_pool(grid: Tensor, boxes: Tensor, *, bins: int = 3) -> Tensor:
    """Average the features at ``(2 * bins) ** 2`` points spread evenly over each box.

    Args:
        grid: Features [B, D, h, w].
        boxes: x1, y1, x2, y2 as fractions of the picture [B, R, 4]; cut off at its border.
        bins: Half the number of points along a side.

    Returns:
        [B, R, D]

    Source: Mask R-CNN, arXiv 1703.06870, section 3 (RoIAlign).

    Example:
        >>> grid = torch.arange(4.0).view(1, 1, 2, 2)
        >>> region_pool(grid, torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])).item()
        1.5
    """
    x1, y1, x2, y2 = boxes.clamp(0, 1)[..., None].unbind(2)  # each [B, R, 1]
    steps = (torch.arange(2 * bins, dtype=boxes.dtype, device=boxes.device) + 0.5) / (2 * bins)
    x, y = x1 + (x2 - x1) * steps, y1 + (y2 - y1) * steps  # [B, R, 2 * bins]
    points = torch.stack(torch.broadcast_tensors(x[..., None, :], y[..., :, None]), dim=-1)
    return sample_points(grid, points.flatten(1, 3)).unflatten(1, (boxes.shape[1], -1)).mean(2)


def _logsumexp(lses: Tensor) -> Tensor:
    # torch.logsumexp has no gradient where all terms are -inf; shifting by a finite maximum keeps it at zero.
    top = lses.amax(0).detach()
    top = top.masked_fill(top == float("-inf"), 0)
    total = torch.exp(lses - top).sum(0)
    return torch.where(total > 0, total, 1).log().add(top).masked_fill(total == 0, float("-inf"))
