"""What may be spent, and what a run will cost."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from facemllm.annotation.annotators.base import Stated
from facemllm.annotation.entries import Totals
from facemllm.annotation.prompt import Prompt
from facemllm.core.config import StrictModel

CHARACTERS_PER_TOKEN = 4.0
"""Of English text, roughly; of JSON fewer."""

PIXELS_PER_TOKEN = 28 * 28
"""One token a square of 28 pixels, as in Qwen2.5-VL; other models differ by a factor of up to five."""

CAPTION_TOKENS = 120


class Budget(StrictModel):
    """What may be spent, over all runs of an output folder. None means no bound.

    Attributes:
        usd: Money, at the prices given.
        tokens: Tokens read and written.
        images: Pictures asked about.
    """

    usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    tokens: int | None = Field(default=None, gt=0)
    images: int | None = Field(default=None, gt=0)

    def full(self, totals: Totals) -> bool:
        """Return whether as many pictures have been asked about as may be."""
        return self.images is not None and totals.asked >= self.images

    def admits(self, totals: Totals, under_way: int, expected: Estimate, *, new: bool = True) -> bool:
        """Return whether another picture may be begun; a picture that is begun is carried to its end.

        Each picture under way counts at the mean of those before it, at first at the estimate; so do requests
        that were never answered, as the endpoint may have charged for them.

        Args:
            totals: What the ledger says.
            under_way: Pictures that are being asked about now.
            expected: Of one picture.
            new: Whether it was never asked about; one that was does not count as another image.
        """
        if new and self.full(totals):
            return False
        usage, ended = totals.usage, totals.asked - under_way
        lost = max(totals.unanswered - under_way, 0)
        for most, spent, guess in (
            (self.usd, usage.cost, expected.usd),
            (
                self.tokens,
                float(usage.tokens_in + usage.tokens_out),
                expected.tokens_in + expected.tokens_out,
            ),
        ):
            each = spent / ended if ended > 0 and spent > 0 else guess
            if most is not None and spent + (under_way + lost + 1) * each > most:
                return False
        return True


@dataclass(frozen=True)
class Estimate:
    """What pictures are expected to cost, before anything was asked.

    Attributes:
        tokens_in: To read.
        tokens_out: To write.
        usd: At the prices given; 0 without prices.
    """

    tokens_in: float = 0.0
    tokens_out: float = 0.0
    usd: float = 0.0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out, self.usd + other.usd
        )

    def times(self, count: int) -> Estimate:
        """Return the estimate for so many pictures."""
        return Estimate(self.tokens_in * count, self.tokens_out * count, self.usd * count)


def estimate(prompt: Prompt, stated: Stated, crop_side: int) -> Estimate:
    """Return what one question about one crop is expected to cost, if the first answer can be used.

    A rough guess from lengths of texts and the number of pixels: tokenizers and vision encoders differ.

    Args:
        prompt: What is asked.
        stated: Prices.
        crop_side: Of the crop, in pixels.

    Example:
        >>> from facemllm.annotation.prompt import load_prompt
        >>> cost = estimate(load_prompt("face"), Stated(price_in=1.0, price_out=2.0), crop_side=448)
        >>> 500 < cost.tokens_in < 2000, 300 < cost.tokens_out < 800, cost.usd < 0.01
        (True, True, True)
    """
    read = len(prompt.system + prompt.user) / CHARACTERS_PER_TOKEN + crop_side**2 / PIXELS_PER_TOKEN
    answer = sum(len(f'"{name}": "not visible", ') for name in (*prompt.attributes, *prompt.include))
    written = answer / CHARACTERS_PER_TOKEN + CAPTION_TOKENS
    return Estimate(read, written, stated.cost(round(read), round(written)))
