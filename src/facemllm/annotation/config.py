"""What is annotated, and how: the part that binds an output folder, and the part that may change."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from facemllm.annotation.annotators.base import Stated
from facemllm.annotation.budget import Budget
from facemllm.annotation.filters import DenyList, Filter, LicenceFilter, NsfwFilter, SizeFilter
from facemllm.annotation.judge import Patience
from facemllm.core.config import StrictModel


class AnnotatorConfig(StrictModel):
    """One annotator.

    Attributes:
        name: Of the plug-in: "openai", "local", "replay", or one of another package.
        options: For the plug-in: ``model``, ``endpoint``, ``parameters``, ...
        terms: The terms under which its answers may be used, in the user's words.
        price_in: US dollars for a million tokens read.
        price_out: US dollars for a million tokens written.
    """

    name: str = "openai"
    options: dict[str, Any] = Field(default_factory=dict)
    terms: str = "not stated"
    price_in: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    price_out: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @property
    def stated(self) -> Stated:
        """Terms and prices."""
        return Stated(self.terms, self.price_in, self.price_out)

    def binding(self) -> dict[str, Any]:
        """Return what must stay the same: not where the server stands, nor what it costs."""
        loose = {"endpoint", "timeout", "api_key_env", "device", "processor"}
        return {
            "name": self.name,
            **{
                key: value
                if isinstance(value, (str, int, float, bool, dict, type(None)))
                else repr(type(value))
                for key, value in self.options.items()
                if key not in loose
            },
        }


class AnnotateConfig(StrictModel):
    """What is annotated and what becomes of it. All but the deny-list binds the output folder.

    Attributes:
        images: A folder, a pattern of images, or a pattern of img2dataset's tar shards.
        licence: The terms of pictures that say nothing themselves.
        min_size: Least shorter side of a picture, in pixels.
        min_face: Least longer side of a face, in pixels.
        nsfw_max: Highest NSFW score that passes; None turns the filter off.
        nsfw_required: Whether a picture without a score is rejected.
        licences: Patterns of licences that pass; empty for all.
        deny_list: File of ids, addresses and SHA-256 hashes of withdrawn pictures. It may grow between runs.
        detector: Name of a face detector.
        crop: "face", or "none" where pictures are face crops already.
        crop_size: Largest side of a crop, in pixels.
        crop_scale: Side of a crop over the longer side of the face.
        prompt: Name of a prompt, or a YAML file.
        attributes: Only these; empty for all of the prompt.
        include: Extra labels asked for by name: "gender", "ethnicity", "age_bin", "expression".
        annotator: Who is asked.
        second: Who is asked too, for agreement.
        format: Of the records' shards.
        keep_crops: Whether webdataset shards hold the crops. For work on one's own machine: do not publish
            them.
        shard_size: Records to a shard.
    """

    images: str
    licence: str = "unknown"
    min_size: int = Field(default=64, ge=1)
    min_face: int = Field(default=40, ge=1)
    nsfw_max: float | None = Field(default=0.5, ge=0, allow_inf_nan=False)
    nsfw_required: bool = False
    licences: tuple[str, ...] = ()
    deny_list: str | None = None
    detector: str = "centerface"
    crop: Literal["face", "none"] = "face"
    crop_size: int = Field(default=448, ge=32)
    crop_scale: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    prompt: str = "face"
    attributes: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    annotator: AnnotatorConfig = AnnotatorConfig()
    second: tuple[AnnotatorConfig, ...] = ()
    format: Literal["jsonl", "webdataset"] = "jsonl"
    keep_crops: bool = False
    shard_size: int = Field(default=1000, ge=1)

    def filters(self) -> list[Filter]:
        """Build the filters, the deny-list first.

        Raises:
            DatasetError: If the deny-list cannot be read.
        """
        found: list[Filter] = [] if self.deny_list is None else [DenyList.read(self.deny_list)]
        if self.nsfw_max is not None:
            found.append(NsfwFilter(self.nsfw_max, required=self.nsfw_required))
        if self.licences:
            found.append(LicenceFilter(self.licences))
        return [*found, SizeFilter(self.min_size)]

    @property
    def priced(self) -> bool:
        """Whether any price is given."""
        return any(
            one.price_in is not None or one.price_out is not None for one in (self.annotator, *self.second)
        )

    def binding(self, prompt_hash: str) -> dict[str, Any]:
        """Return what must stay the same from run to run."""
        values = self.model_dump(mode="json", exclude={"deny_list", "annotator", "second"})
        return {
            **values,
            "prompt_hash": prompt_hash,
            "annotator": self.annotator.binding(),
            "second": [one.binding() for one in self.second],
        }


class RunConfig(StrictModel):
    """How a run goes; it may differ from run to run.

    Attributes:
        concurrency: Pictures that are asked about at the same time.
        threads: Pictures that are read and cropped at the same time.
        patience: Time-outs and retries.
        budget: What may be spent, over all runs of the output folder.
        give_up_after: Pictures in a row without a usable reply that end the run.
        ray: Address of a Ray cluster, "auto", or "local" to start one here; None for this process alone.
        ray_workers: Ray workers.
    """

    concurrency: int = Field(default=16, ge=1)
    threads: int = Field(default=2, ge=1)
    patience: Patience = Patience()
    budget: Budget = Budget()
    give_up_after: int = Field(default=20, ge=1)
    ray: str | None = None
    ray_workers: int = Field(default=2, ge=1)
