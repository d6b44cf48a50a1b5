"""What flows through the steps: a picture on its way, and why it went no further."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facemllm.faces import Face


@dataclass(frozen=True)
class Item:
    """A picture to annotate, known by reference or held as the bytes of its file.

    Attributes:
        id: Unique within the source, and the same on every machine (no absolute path).
        data: The file's bytes, or None where ``path`` is read when its turn comes.
        path: The file.
        metadata: What the source knows: ``url``, ``licence``, ``sha256``, ``sample_id``, ``nsfw``. None of
            it is ever shown to an annotator.
        broken: Why the source itself could not give the picture.

    Example:
        >>> Item("a/1.jpg", data=b"...").read()
        b'...'
    """

    id: str
    data: bytes | None = None
    path: Path | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    broken: str | None = None

    def read(self) -> bytes:
        """Return the bytes of the picture's file."""
        if self.data is not None:
            return self.data
        return b"" if self.path is None else self.path.read_bytes()


@dataclass(frozen=True)
class Rejection:
    """Why a picture ends without a record.

    Attributes:
        reason: A word that is counted: ``no_face``, ``denied``, ``refused``.
        detail: What exactly, for a person.
    """

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Prepared:
    """A picture that passed the filters, with its face cut out.

    Attributes:
        jpeg: The crop that the annotator sees, as a JPEG without any metadata.
        sha256: Of the picture's file.
        size: Width and height of the picture in pixels.
        face: The face that was cut out; None where the whole picture was taken.
        faces_found: How many faces the detector saw.
    """

    jpeg: bytes
    sha256: str
    size: tuple[int, int]
    face: Face | None = None
    faces_found: int = 0
