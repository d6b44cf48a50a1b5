"""The loss over answer tokens, with room for numbers that are nearly right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from facemllm.core.errors import TrainingError
from facemllm.processing.template import IGNORE


def answer_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    ordered: Sequence[bool] | None = None,
    numbers: Mapping[int, int] | None = None,
    spread: float = 0.0,
) -> Tensor:
    """Return the mean cross entropy over answer tokens.

    To plain cross entropy, 33 for a person of 34 is as wrong as 3. With ``spread`` the target of a number
    in an
    ordered row is a Gaussian around it over all number tokens, as in label-distribution learning; the most
    probable number then lies near the middle of what the model believes, which is what a mean error asks for.

    Source: label distributions for age, Geng et al., TPAMI 2013.

    Args:
        logits: [B, L, V].
        labels: Ids, -100 where nothing is to be learnt [B, L]; not shifted.
        ordered: Whether the numbers in a row's answer are ordered quantities [B].
        numbers: Value to token id of the numbers that are one token.
        spread: Standard deviation, in the unit of the numbers; 0 for plain cross entropy.

    Raises:
        TrainingError: If no token is to be learnt.

    Example:
        >>> labels = torch.tensor([[-100, 2]])
        >>> round(float(answer_loss(torch.zeros(1, 2, 4), labels)), 4)
        1.3863
    """
    shifted, targets = logits[:, :-1], labels[:, 1:]
    learnt = targets != IGNORE
    if not learnt.any():
        raise TrainingError(
            "no answer token in a batch",
            given=f"labels {tuple(labels.shape)}, all ignored",
            expected="at least one token to learn",
            do="check the chat template and the length of the answers",
        )
    logprobs = shifted[learnt].float().log_softmax(-1)
    wanted = targets[learnt]
    losses = F.nll_loss(logprobs, wanted, reduction="none")
    if spread > 0 and numbers and ordered is not None:
        values = torch.tensor(sorted(numbers), dtype=torch.float32, device=logits.device)
        ids = torch.tensor([numbers[int(value)] for value in values], device=logits.device)
        row_ordered = torch.tensor(list(ordered), device=logits.device)[:, None].expand_as(targets)[learnt]
        is_number = row_ordered & torch.isin(wanted, ids)
        if is_number.any():
            true = (wanted[is_number, None] == ids[None]).float() @ values
            target = torch.exp(-0.5 * ((values[None] - true[:, None]) / spread) ** 2)
            target = target / target.sum(1, keepdim=True)
            losses = losses.masked_scatter(is_number, -(target * logprobs[is_number][:, ids]).sum(1))
    return losses.mean()


def answer_tokens(labels: Tensor) -> int:
    """Return how many tokens :func:`answer_loss` averages over, for labels [B, L]."""
    return int((labels[:, 1:] != IGNORE).sum())


def joint_loss(losses: Sequence[Tensor], tokens: Sequence[int]) -> Tensor:
    """Return the loss of several batches as if they had been one: their mean, weighted by answer tokens.

    Example:
        >>> joint_loss([torch.tensor(1.0), torch.tensor(4.0)], [2, 1])
        tensor(2.)
    """
    weights = torch.tensor(tokens, dtype=torch.float32, device=losses[0].device)
    return (torch.stack(list(losses)) * weights).sum() / weights.sum()
