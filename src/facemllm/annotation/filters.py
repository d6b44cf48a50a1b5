"""Filters: each says why a picture is not to be annotated, or nothing. The cheap ones come first."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from urllib.parse import urlsplit

from facemllm.annotation.items import Item, Rejection
from facemllm.core.errors import DatasetError


class Filter:
    """Base class: passes everything. A filter overrides one or both methods."""

    def before(self, item: Item) -> Rejection | None:
        """Judge by what the source knows, before the picture is opened."""
        return None

    def after(self, item: Item, sha256: str, size: tuple[int, int]) -> Rejection | None:
        """Judge by the hash of the file and the size of the picture (width, height) in pixels."""
        return None


class SizeFilter(Filter):
    """Rejects small pictures.

    Args:
        min_size: Least shorter side, in pixels.
    """

    def __init__(self, min_size: int) -> None:
        self.min_size = min_size

    def after(self, item: Item, sha256: str, size: tuple[int, int]) -> Rejection | None:
        """Judge the shorter side."""
        if min(size) >= self.min_size:
            return None
        return Rejection(
            "too_small", f"{size[0]}x{size[1]} pixels, at least {self.min_size} a side are asked"
        )


class NsfwFilter(Filter):
    """Rejects pictures by the score that their source gives them.

    Args:
        most: Highest score that passes; LAION's words count as 0 (unlikely), 0.5 (unsure) and 1.
        required: Also reject pictures without a score.
    """

    def __init__(self, most: float, *, required: bool = False) -> None:
        self.most, self.required = most, required

    def before(self, item: Item) -> Rejection | None:
        """Judge the score."""
        score = item.metadata.get("nsfw")
        if score is None:
            return Rejection("nsfw_unknown", "the source gives no score") if self.required else None
        return Rejection("nsfw", f"score {score:g} is above {self.most:g}") if score > self.most else None


class LicenceFilter(Filter):
    """Passes only pictures whose licence matches one of some patterns.

    Args:
        patterns: As for file names, letter case ignored: ``CC BY*``.
    """

    def __init__(self, patterns: Collection[str]) -> None:
        self.patterns = tuple(pattern.lower() for pattern in patterns)

    def before(self, item: Item) -> Rejection | None:
        """Judge the licence."""
        licence = str(item.metadata.get("licence", "unknown"))
        if any(fnmatch.fnmatchcase(licence.lower(), pattern) for pattern in self.patterns):
            return None
        return Rejection("licence", f"{licence!r} is none of {', '.join(self.patterns)}")


class DenyList(Filter):
    """Rejects withdrawn pictures: by id, address, or SHA-256 of their file.

    Args:
        entries: Ids (of the source or ``SAMPLE_ID``), addresses, hashes in any order.

    Example:
        >>> deny = DenyList(["HTTP://Example.org/a.jpg#top", "7"])
        >>> deny.before(Item("x", metadata={"url": "https://example.org/a.jpg"})).reason
        'denied'
        >>> deny.before(Item("x", metadata={"sample_id": "8"})) is None
        True
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self.entries = frozenset(_canonical(entry) for entry in entries)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> DenyList:
        """Read a list, one entry a line; ``#`` starts a comment line.

        Raises:
            DatasetError: If there is no such file.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(
                "cannot read a deny-list",
                given=f"{os.fspath(path)} ({type(error).__name__})",
                expected="a text file with one id, address or SHA-256 a line",
                do="check the path",
            ) from None
        return cls(line.strip() for line in lines if line.strip() and not line.startswith("#"))

    def __len__(self) -> int:
        return len(self.entries)

    def before(self, item: Item) -> Rejection | None:
        """Judge id, address, and the hashes that the source knows."""
        for what in ("id", "sample_id", "url", "sha256"):
            value = item.id if what == "id" else item.metadata.get(what)
            if value is not None and _canonical(str(value)) in self.entries:
                return Rejection("denied", f"its {what} is on the deny-list")
        return None

    def after(self, item: Item, sha256: str, size: tuple[int, int]) -> Rejection | None:
        """Judge the hash of the file itself."""
        return Rejection("denied", "its sha256 is on the deny-list") if sha256 in self.entries else None


def _canonical(entry: str) -> str:
    entry = entry.strip()
    if len(entry) == 64:
        return entry.lower()
    if "://" not in entry:
        return entry
    parts = urlsplit(entry)  # of an address, neither the scheme, the case of the host nor the fragment matter
    return f"{parts.netloc.lower()}{parts.path}{'?' + parts.query if parts.query else ''}"
