"""What is stored: an annotation with where it came from and what it cost, or a reject with its reason."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from facemllm.annotation.answer import NOT_VISIBLE, Seen
from facemllm.core.config import StrictModel
from facemllm.data.schema import FaceSample

VERSION: Literal["facemllm.annotation/1"] = "facemllm.annotation/1"
"""Of the records' layout."""


class Picture(StrictModel):
    """Where a picture came from. The picture itself is never stored.

    Attributes:
        sha256: Of its file; None if it could not be read.
        size: Width and height in pixels.
        url: Where it was found, if the source says.
        sample_id: Its number in the source's own list.
        licence: Its terms, as far as the source says.
    """

    sha256: str | None = None
    size: tuple[int, int] | None = None
    url: str | None = None
    sample_id: str | None = None
    licence: str = "unknown"


class Provenance(StrictModel):
    """Who wrote an annotation, how, when, and for how much.

    Attributes:
        annotator: Name of the plug-in.
        model: As asked for.
        served: As the server called it, where it did.
        endpoint: Host of the server.
        prompt: Name and version.
        prompt_hash: SHA-256 of all that the annotator was told and the rules its answer was held to.
        parameters: Of generation.
        terms: The terms of the annotator that the user stated.
        time: When the answer was complete, UTC, ISO 8601.
        seconds: From the first request to the answer, waits included.
        requests: How many were answered for this picture by this annotator.
        repaired: Whether the answer is a second one, after the first could not be used.
        tokens_in: Read by the model.
        tokens_out: Written by the model.
        cost_usd: At the prices that were given; None without prices.
    """

    annotator: str
    model: str
    served: str | None = None
    endpoint: str | None = None
    prompt: str
    prompt_hash: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    terms: str
    time: str
    seconds: float
    requests: int
    repaired: bool = False
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None


class Opinion(StrictModel):
    """What another annotator said of the same crop, and how far it agrees.

    Attributes:
        caption: None if its answer could not be used.
        attributes: By name.
        labels: Extra labels.
        rejected: Why its answer could not be used.
        agreement: Share of attributes on which both say the same.
        provenance: Of this opinion.
    """

    caption: str | None = None
    attributes: dict[str, Seen] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    rejected: str | None = None
    agreement: float | None = None
    provenance: Provenance


class Annotation(StrictModel):
    """One picture's annotation.

    Attributes:
        id: Of the picture in its source.
        picture: Where it came from.
        face: Box, landmarks and score in pixels of the upright picture; None where the whole picture was
            taken.
        faces_found: How many faces the detector saw; the most prominent one is described.
        caption: One to five sentences.
        neutralised: Whether words that tell an unasked perceived trait were taken out of the caption.
        attributes: By name, "yes", "no" or "not visible".
        labels: Extra labels that were asked for by name.
        provenance: Of the annotation.
        opinions: Of other annotators.
        version: Of this layout.
    """

    id: str
    picture: Picture
    face: dict[str, Any] | None = None
    faces_found: int = 0
    caption: str
    neutralised: bool = False
    attributes: dict[str, Seen]
    labels: dict[str, str] = Field(default_factory=dict)
    provenance: Provenance
    opinions: tuple[Opinion, ...] = ()
    version: Literal["facemllm.annotation/1"] = VERSION

    def to_sample(self, *, dataset: str = "annotated") -> FaceSample:
        """Return the annotation as a labelled sample; what is not visible is left out, not taken for "no".

        Args:
            dataset: Name of the dataset that the sample is to carry.
        """
        labels: dict[str, Any] = {
            "attributes": {
                name: seen == "yes" for name, seen in self.attributes.items() if seen != NOT_VISIBLE
            }
        }
        labels |= {name: label for name, label in self.labels.items() if label != NOT_VISIBLE}
        return FaceSample(
            id=self.id,
            image=self.id,
            box=None if self.face is None else tuple(self.face["box"]),
            labels=labels,
            dataset=dataset,
            licence=self.picture.licence,
        )


class Reject(StrictModel):
    """One picture that ended without an annotation.

    Attributes:
        id: Of the picture in its source.
        reason: A word that is counted.
        detail: What exactly.
        picture: Where it came from.
        time: When, UTC, ISO 8601.
        requests: How many were answered for it.
        tokens_in: Read for it all the same.
        tokens_out: Written for it all the same.
        cost_usd: What it cost all the same.
        version: Of this layout.
    """

    id: str
    reason: str
    detail: str = ""
    picture: Picture
    time: str
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None
    version: Literal["facemllm.annotation/1"] = VERSION
