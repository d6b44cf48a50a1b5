"""The tokens a face model knows beside ordinary text.

Three kinds: structure (``<image>``, ``<face>``), one token for each face region, and location tokens.
They are *special* tokens of the tokenizer, so ordinary text never turns into one by merging, and text
that spells one is recognised before it is tokenised (see :mod:`facemllm.processing.template`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from facemllm.core.errors import TokenizationError

IMAGE_TOKEN = "<image>"
"""Stands for one picture in text; becomes as many tokens as the connector gives out."""

FACE_TOKEN = "<face>"
"""Opens the box or landmarks of one face."""

REGIONS = ("eyes", "brows", "nose", "mouth", "jaw")
"""The face regions that have a token, in the order of the region-guided encoder."""

REGION_TOKENS = tuple(f"<region_{name}>" for name in REGIONS)

MAX_LOCATION_BINS = 1000
"""Location tokens are written with three digits."""


def region_token(name: str) -> str:
    """Return the token of a face region.

    Raises:
        TokenizationError: If there is no such region.

    Example:
        >>> region_token("eyes")
        '<region_eyes>'
    """
    if name not in REGIONS:
        raise TokenizationError(
            "no such face region",
            given=repr(name),
            expected=f"one of {', '.join(REGIONS)}",
            do="correct the name",
        )
    return f"<region_{name}>"


def location_tokens(bins: int) -> tuple[str, ...]:
    """Return the location tokens of a grid with ``bins`` steps along each side.

    Raises:
        TokenizationError: If ``bins`` is not within 0 and ``MAX_LOCATION_BINS``.

    Example:
        >>> location_tokens(2)
        ('<loc_000>', '<loc_001>')
    """
    if not 0 <= bins <= MAX_LOCATION_BINS:
        raise TokenizationError(
            "wrong number of location bins",
            given=bins,
            expected=f"0 to {MAX_LOCATION_BINS}",
            do="choose fewer bins",
        )
    return tuple(f"<loc_{index:03d}>" for index in range(bins))


def face_tokens(*, location_bins: int = 0) -> tuple[str, ...]:
    """Return every token of this module: structure, regions, then ``location_bins`` location tokens.

    Example:
        >>> face_tokens()[:3]
        ('<image>', '<face>', '<region_eyes>')
    """
    return (IMAGE_TOKEN, FACE_TOKEN, *REGION_TOKENS, *location_tokens(location_bins))


def is_face_token(token: str) -> bool:
    """Tell whether a token may be written in text on purpose (all of ours but ``<image>``).

    Example:
        >>> is_face_token("<loc_012>"), is_face_token("<image>"), is_face_token("<|im_end|>")
        (True, False, False)
    """
    if token == FACE_TOKEN or token in REGION_TOKENS:
        return True
    return token.startswith("<loc_") and token.endswith(">") and len(token) == 9 and token[5:8].isdigit()


def add_special_tokens(tokenizer: Any, tokens: Sequence[str] = (IMAGE_TOKEN,)) -> int:
    """Make each of ``tokens`` one special token of a transformers tokenizer; return how many were new.

    The model's embedding must then be grown to ``len(tokenizer)``.

    Raises:
        TokenizationError: If the tokenizer still splits one of them.
    """
    from tokenizers import AddedToken

    # Not normalised: a tokenizer that lower-cases or adds spaces must leave these spellings alone.
    wanted = [AddedToken(token, special=True, normalized=False) for token in tokens]
    added: int = tokenizer.add_tokens(wanted, special_tokens=True)
    for token in tokens:
        ids = tokenizer.encode(token, add_special_tokens=False)
        if len(ids) != 1:
            raise TokenizationError(
                f"tokenizer cannot hold {token!r}",
                given=f"{len(ids)} ids for it: {ids}",
                expected="one id",
                do="use a fast tokenizer (tokenizer.json)",
            )
    return added
