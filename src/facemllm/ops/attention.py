"""Attention, computed by whichever backend can honour all of its arguments.

Equivalent plain torch: :func:`facemllm.ops.reference.attention` with ``mask.materialize(Q, K)``.
"""

from __future__ import annotations

from torch import Tensor

from facemllm.core.errors import ConfigError
from facemllm.ops.backends import Inputs, select_backend
from facemllm.ops.checks import check_tensors, is_number
from facemllm.ops.masks import Mask, checked_mask
from facemllm.ops.reference import merge_partials

__all__ = ["attention", "merge_partials", "partial_attention"]


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask | None = None,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
    backend: str | None = None,
) -> Tensor:
    """Return ``softmax(scale * q k^T) v`` over the keys that ``mask`` allows; a query without any gets zeros.

    Args:
        q: Queries [B, H, Q, D].
        k: Keys [B, G, K, D]; H is a multiple of G.
        v: Values [B, G, K, Dv].
        mask: Which query sees which key; all if left out.
        scale: ``D ** -0.5`` if left out.
        dropout: Probability that a weight is set to zero (the others grow to make up for it).
        backend: Name of the backend that must compute it; that of ``use_backend``, or the first that can.

    Returns:
        [B, H, Q, Dv]

    Raises:
        ConfigError: If shapes or dtypes do not fit, or the backend of ``use_backend`` cannot take them.

    Example:
        >>> import torch
        >>> from facemllm.ops.masks import Causal
        >>> x = torch.randn(1, 2, 5, 8)
        >>> attention(x, x, x, Causal()).shape
        torch.Size([1, 2, 5, 8])
    """
    inputs = Inputs(q, k, v, mask, scale, dropout=dropout)
    _check(inputs)
    return select_backend(inputs, backend).run(inputs)[0]


def partial_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask | None = None,
    *,
    scale: float | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Return attention over these keys and its log-sum-exp [B, H, Q], to be joined by ``merge_partials``.

    Raises:
        ConfigError: As for ``attention``.
    """
    inputs = Inputs(q, k, v, mask, scale, needs_lse=True)
    _check(inputs)
    out, lse = select_backend(inputs, backend).run(inputs)
    assert lse is not None
    return out, lse


def _check(inputs: Inputs) -> None:
    q, k, v = inputs.q, inputs.k, inputs.v
    check_tensors("attention", q=q, k=k, v=v)
    fits = (
        q.dim() == k.dim() == v.dim() == 4
        and q.shape[0] == k.shape[0] == v.shape[0]
        and k.shape[1:3] == v.shape[1:3]
        and q.shape[3] == k.shape[3] > 0
        and k.shape[1] > 0
        and q.shape[1] % k.shape[1] == 0
    )
    if not fits:
        raise ConfigError(
            "attention cannot combine these shapes",
            given=str(inputs),
            expected="q [B, H, Q, D], k [B, G, K, D], v [B, G, K, Dv], with H a multiple of G",
            do="split the width into heads: x.unflatten(-1, (H, D)).transpose(1, 2)",
        )
    if inputs.mask is not None:
        leading = checked_mask(inputs.mask).leading()
        if any(size not in (1, q.shape[-3 - back]) for back, size in enumerate(reversed(leading[-2:]))):
            raise ConfigError(
                "the mask is of another batch, or of other heads",
                given=f"{type(inputs.mask).__name__} for {list(leading)}; {inputs}",
                expected=f"[{q.shape[0]}, {q.shape[1]}] or 1 in their place",
                do="build the mask for this batch",
            )
    # By zero too: torch's fused causal kernel multiplies its minus infinities by it, and gives no number.
    if inputs.scale is not None and not (is_number(inputs.scale, least=0) and inputs.scale):
        raise ConfigError(
            "attention cannot scale its scores",
            given=f"scale={inputs.scale!r}",
            expected="a finite number above 0",
            do="leave it out for D ** -0.5",
        )
    if not 0 <= inputs.dropout < 1:
        raise ConfigError(
            "attention cannot drop these weights",
            given=f"dropout={inputs.dropout}",
            expected="a probability below 1",
            do="pass 0 for none",
        )
    if not (q.dtype == k.dtype == v.dtype and q.device == k.device == v.device and q.is_floating_point()):
        raise ConfigError(
            "attention needs one floating dtype and one device",
            given=", ".join(
                f"{name} {x.dtype} on {x.device}" for name, x in zip("qkv", (q, k, v), strict=True)
            ),
            expected="the same for q, k and v",
            do="use .to(q)",
        )
