"""A step's pictures, divided among processes and into the parts of gradient accumulation.

All processes draw the same pictures, as the draw depends on the step alone, and each takes its own of them:
none is seen twice or left out, however uneven they are. Each token counts as much as in one process,
because losses are summed and divided by the tokens of the whole step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from facemllm.processing.template import IGNORE
from facemllm.training.batches import Pairs


@dataclass(frozen=True)
class Share:
    """What is computed in one forward pass.

    Attributes:
        pairs: Pictures and their pairs; never empty.
        weight: What the sum of its token losses is multiplied by.
    """

    pairs: tuple[Pairs, ...]
    weight: float


def shares(drawn: Sequence[Pairs], *, rank: int = 0, count: int = 1, parts: int = 1) -> list[Share]:
    """Return what process ``rank`` of ``count`` computes, in up to ``parts`` parts.

    All processes get equally many parts. One for which no picture is left computes the first one with a
    weight of zero, so that the processes stay in step.

    The mean of the processes' gradients is that of the mean loss over all tokens of the step.

    Example:
        >>> from facemllm.processing.template import Encoded
        >>> pair = Encoded([7, 8], [IGNORE, 8], [True, False])
        >>> drawn = [Pairs(name, torch.zeros(1), (pair,), ("age",)) for name in "abc"]
        >>> [[(p.sample, s.weight) for s in shares(drawn, rank=r, count=2) for p in s.pairs] for r in (0, 1)]
        [[('a', 0.6666666666666666), ('c', 0.6666666666666666)], [('b', 0.6666666666666666)]]
    """
    tokens = sum(label != IGNORE for pairs in drawn for encoded in pairs.encoded for label in encoded.labels)
    own = drawn[rank::count]
    most = -(-len(drawn) // count)
    result = []
    for part in range(max(1, min(parts, most))):
        chosen = tuple(own[part :: min(parts, most)])
        result.append(Share(chosen, count / tokens) if chosen else Share(tuple(drawn[:1]), 0.0))
    return result


def without_channels(drawn: Sequence[Pairs], share: float, seed: int) -> list[Pairs]:
    """Return the pictures with a random share of the channels of each one's features set to zero.

    A channel is left out in all tokens of a picture at once, and the others grow to make up for it. The
    choice is made for all pictures of a step together, so it is the same however they are divided.
    """
    if not share:
        return list(drawn)
    generator = torch.Generator().manual_seed(seed)
    chance = torch.rand(len(drawn), 1, drawn[0].picture.shape[-1], generator=generator)
    kept: Tensor = chance >= share
    return [
        replace(pairs, picture=pairs.picture * mask / (1 - share))
        for pairs, mask in zip(drawn, kept, strict=True)
    ]
