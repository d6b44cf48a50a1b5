"""The loss over answer tokens, with room for numbers that are nearly right."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from facemllm.core.errors import TrainingError
from facemllm.processing.template import IGNORE

SoftTarget = Mapping[int, float]
"""Shares of the ids that a token may be."""


def answer_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    ordered: Tensor | None = None,
    numbers: Mapping[int, int] | None = None,
    spread: float = 0.0,
) -> Tensor:
    """Return the mean of :func:`token_losses`.

    Args:
        logits: Where the tokens are predicted [M, V].
        targets: Their ids [M].
        ordered: Whether a number there is an ordered quantity [M].
        numbers: Value to token id of the numbers that are one token.
        spread: Standard deviation, in the unit of the numbers; 0 for plain cross entropy.

    Raises:
        TrainingError: If no token is to be learnt.

    Example:
        >>> round(float(answer_loss(torch.zeros(1, 4), torch.tensor([2]))), 4)
        1.3863
    """
    return token_losses(logits, targets, ordered=ordered, numbers=numbers, spread=spread).mean()


def token_losses(
    logits: Tensor,
    targets: Tensor,
    *,
    ordered: Tensor | None = None,
    numbers: Mapping[int, int] | None = None,
    spread: float = 0.0,
    soft: Mapping[int, SoftTarget] | None = None,
) -> Tensor:
    """Return the cross entropy of each token that is to be learnt [M].

    To plain cross entropy, 33 for a person of 34 is as wrong as 3. With ``spread`` the target of an ordered
    number is a Gaussian around it over all number tokens, as in label-distribution learning; the most
    probable number then lies near the middle of what the model believes, which is what a mean error asks for.

    Source: label distributions for age, Geng et al., TPAMI 2013; soft targets, Hinton et al.,
    arXiv 1503.02531.

    Args:
        logits: Where the tokens are predicted [M, V].
        targets: Their ids [M].
        ordered: Whether a number there is an ordered quantity [M].
        numbers: Value to token id of the numbers that are one token.
        spread: Standard deviation, in the unit of the numbers; 0 for plain cross entropy.
        soft: By place, below M, what is to be learnt there in place of the one id.

    Raises:
        TrainingError: If no token is to be learnt, or a spread is asked for where numbers are digits.

    Example:
        >>> [round(loss, 4) for loss in token_losses(torch.zeros(2, 4), torch.tensor([2, 0])).tolist()]
        [1.3863, 1.3863]
    """
    if not len(targets):
        raise TrainingError(
            "no answer token in a batch",
            given="no token to learn",
            expected="at least one",
            do="check the chat template and the length of the answers",
        )
    if spread > 0 and numbers is not None and len(numbers) <= 10:
        raise TrainingError(
            "ages cannot be spread in this language model",
            given=f"age_spread={spread}, a tokenizer with {len(numbers)} whole numbers as single tokens",
            expected="numbers of two digits as single tokens: a spread of years would be one of digits",
            do="set age_spread: 0, or use a tokenizer that does not split numbers",
        )
    logprobs = logits.float().log_softmax(-1)
    losses = F.nll_loss(logprobs, targets, reduction="none")
    if spread > 0 and numbers and ordered is not None:
        values = torch.tensor(sorted(numbers), dtype=torch.float32, device=logits.device)
        ids = torch.tensor([numbers[int(value)] for value in values], device=logits.device)
        is_number = ordered & torch.isin(targets, ids)
        if is_number.any():
            true = (targets[is_number, None] == ids[None]).float() @ values
            target = torch.exp(-0.5 * ((values[None] - true[:, None]) / spread) ** 2)
            target = target / target.sum(1, keepdim=True)
            losses = losses.masked_scatter(is_number, -(target * logprobs[is_number][:, ids]).sum(1))
    if soft:
        places = torch.tensor(list(soft), device=logits.device)
        entries = [(row, *entry) for row, shares in enumerate(soft.values()) for entry in shares.items()]
        rows, ids, shares = (torch.tensor(part, device=logits.device) for part in zip(*entries, strict=True))
        softly = torch.zeros(len(places), device=logits.device)
        softly = softly.index_add(0, rows, -shares * logprobs[places[rows], ids])
        losses = losses.index_copy(0, places, softly)
    return losses


def shifted(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the labels of padded rows are predicted, and their ids.

    Args:
        labels: Ids, -100 where nothing is to be learnt [B, L].

    Returns:
        Indices into the flattened logits [B * L], and ids, both [M].

    Example:
        >>> [part.tolist() for part in shifted(torch.tensor([[-100, 5, 6], [-100, -100, 7]]))]
        [[0, 1, 4], [5, 6, 7]]
    """
    rows, columns = torch.nonzero(labels[:, 1:] != IGNORE, as_tuple=True)
    return rows * labels.shape[1] + columns, labels[rows, columns + 1]
