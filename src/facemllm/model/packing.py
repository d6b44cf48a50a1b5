"""From prompts about pictures to trunks and branches, and to packs of them for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from facemllm.core.errors import TokenizationError
from facemllm.ops import PrefixTree
from facemllm.processing.template import IGNORE, Encoded


@dataclass(frozen=True)
class Split:
    """Prompts about the same picture, cut where the picture ends.

    Attributes:
        trunk: Ids up to and with the last image token [T].
        branches: What follows, a prompt each.
    """

    trunk: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...]


def split(prompts: Sequence[Encoded]) -> Split | None:
    """Cut prompts behind their last image token, or return None where their beginnings differ.

    Example:
        >>> prompts = [Encoded([1, 9, 9, end], [-100] * 4, [False, True, True, False]) for end in (5, 6)]
        >>> split(prompts)
        Split(trunk=(1, 9, 9), branches=((5,), (6,)))
    """
    masks = prompts[0].image_mask
    if True not in masks:
        return None
    length = len(masks) - masks[::-1].index(True)
    trunk = tuple(prompts[0].input_ids[:length])
    branches = tuple(tuple(prompt.input_ids[length:]) for prompt in prompts)
    if not all(branches) or any(tuple(prompt.input_ids[:length]) != trunk for prompt in prompts):
        return None
    return Split(trunk, branches)


@dataclass(frozen=True)
class Packed:
    """Pictures with their questions and answers, laid end to end: no padding, and each picture once.

    Attributes:
        input_ids: Trunk, then branches, picture by picture [1, L].
        tree: How the tokens hang together.
        predictors: Where in the row a token that is to be learnt is predicted [M].
        targets: The ids of these tokens [M].
        pairs: The number of the question-answer pair each belongs to [M].
    """

    input_ids: Tensor
    tree: PrefixTree
    predictors: Tensor
    targets: Tensor
    pairs: Tensor


def pack(groups: Sequence[Sequence[Encoded]]) -> Packed:
    """Pack question-answer pairs, a group for each picture.

    A token is predicted by the one before it, which for the first of a branch is the trunk's last, common to
    all branches: nothing may be learnt there, and nothing is, as a branch begins with its question.

    Args:
        groups: For each picture its K tokenised pairs (``FaceProcessor.encode_qa``).

    Raises:
        TokenizationError: If the pairs of a picture do not begin alike, or an answer follows it directly.

    Example:
        >>> pairs = [Encoded([9, 4, end], [-100, -100, end], [True, False, False]) for end in (5, 6)]
        >>> packed = pack([pairs])
        >>> packed.input_ids.tolist(), packed.predictors.tolist(), packed.targets.tolist()
        ([[9, 4, 5, 4, 6]], [1, 3], [5, 6])
    """
    ids: list[int] = []
    trunks: list[int] = []
    branches: list[tuple[int, ...]] = []
    predictors, targets, pairs = [], [], []
    number = 0
    for group in groups:
        cut = split(group)
        if cut is None or any(pair.labels[len(cut.trunk)] != IGNORE for pair in group):
            raise TokenizationError(
                "pairs about a picture cannot be packed",
                given=f"{len(group)} pairs that differ before its end, or an answer right behind it",
                expected="the same beginning up to the picture, then a question each",
                do="use one system text for all questions about a picture",
            )
        length = len(cut.trunk)
        ids += cut.trunk
        for branch, pair in zip(cut.branches, group, strict=True):
            for offset, label in enumerate(pair.labels[length:]):
                if label != IGNORE:
                    predictors.append(len(ids) + offset - 1)
                    targets.append(label)
                    pairs.append(number)
            ids += branch
            number += 1
        if len(group) == 1:  # a lone branch is the trunk going on
            trunks.append(length + len(cut.branches[0]))
            branches.append(())
        else:
            trunks.append(length)
            branches.append(tuple(len(branch) for branch in cut.branches))
    return Packed(
        torch.tensor([ids]),
        PrefixTree(tuple(trunks), tuple(branches)),
        torch.tensor(predictors),
        torch.tensor(targets),
        torch.tensor(pairs),
    )
