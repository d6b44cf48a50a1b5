"""Annotate: all steps put together, in this process or over a Ray cluster."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facemllm.annotation.agreement import agreement_report
from facemllm.annotation.annotators import Annotator, create_annotator
from facemllm.annotation.budget import Estimate, estimate
from facemllm.annotation.config import AnnotateConfig, RunConfig
from facemllm.annotation.engine import Book, Engine, Prepare
from facemllm.annotation.entries import End, Totals
from facemllm.annotation.items import Rejection
from facemllm.annotation.judge import Judge
from facemllm.annotation.ledger import Ledger, check_folder
from facemllm.annotation.prepare import FacePreparer
from facemllm.annotation.progress import Bar
from facemllm.annotation.prompt import Prompt, load_prompt
from facemllm.annotation.sources import Source, create_source
from facemllm.core.cluster import import_ray
from facemllm.core.errors import ConfigError, FaceMLLMError


@dataclass(frozen=True)
class Summary:
    """What a run did, and how the output folder stands.

    Attributes:
        totals: Over all runs of the folder, from the ledger.
        skipped: Pictures that had an end before this run, or came twice.
        stopped: If the run ended before the source did: "limit" where enough pictures were asked about,
            "budget" where more would have been spent than may be; else None.
        seconds: Of this run.
        agreement: By further judge; empty without second opinions.
        out: The folder.
        priced: Whether prices were given, so that the cost is known.
    """

    totals: Totals
    skipped: int
    stopped: str | None
    seconds: float
    agreement: dict[str, Any]
    out: Path
    priced: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **self.totals.to_dict(),
            **({} if self.priced else {"cost_usd": None}),
            "skipped": self.skipped,
            "stopped": self.stopped,
            "seconds": round(self.seconds, 2),
            "mean_kappa": {judge: scores["mean_kappa"] for judge, scores in self.agreement.items()},
            "out": str(self.out),
        }


@dataclass
class Parts:
    """The parts of a run, as built from a configuration; any may be replaced by an instance.

    Attributes:
        source: Pictures.
        prepare: From an item to a crop.
        annotators: The annotator, and those for second opinions.
        prompt: What is asked.
    """

    source: Source
    prepare: Prepare
    annotators: Sequence[Annotator]
    prompt: Prompt = field(default_factory=lambda: load_prompt("face"))


def build_parts(
    config: AnnotateConfig,
    *,
    source: Source | None = None,
    prepare: Prepare | None = None,
    annotators: Sequence[Annotator] | None = None,
    prompt: Prompt | None = None,
) -> Parts:
    """Build the parts that are not given.

    Raises:
        FaceMLLMError: If something in the configuration does not fit; before anything is read or asked.
    """
    return Parts(
        source=source if source is not None else create_source(config.images, licence=config.licence),
        prepare=prepare or build_preparer(config),
        annotators=annotators or [create_annotator(one.name, **one.options) for one in (config.annotator,
        *config.second)],
        prompt=prompt or load_prompt(config.prompt, config.include, config.attributes or None),
    )  # fmt: skip


def build_preparer(config: AnnotateConfig) -> FacePreparer:
    """Build the step from a file to a crop."""
    return FacePreparer(
        config.filters(),
        detector=config.detector,
        crop=config.crop,
        crop_size=config.crop_size,
        crop_scale=config.crop_scale,
        min_face=config.min_face,
    )


def build_judges(
    config: AnnotateConfig, run: RunConfig, annotators: Sequence[Annotator], prompt: Prompt
) -> list[Judge]:
    """Put annotators, prompt, terms and patience together."""
    stated = [one.stated for one in (config.annotator, *config.second)]
    return [
        Judge(annotator, prompt, number=number, stated=stated[number], patience=run.patience)
        for number, annotator in enumerate(annotators)
    ]


def expected_cost(config: AnnotateConfig, prompt: Prompt) -> Estimate:
    """Return what one picture is expected to cost, with all annotators."""
    total = Estimate()
    for one in (config.annotator, *config.second):
        total += estimate(prompt, one.stated, config.crop_size)
    return total


def annotate(
    config: AnnotateConfig,
    out: str | os.PathLike[str],
    run: RunConfig | None = None,
    *,
    progress: bool = False,
    **parts: Any,
) -> Summary:
    """Annotate pictures; go on where an earlier run of the same folder stopped.

    Args:
        config: What is annotated.
        out: Folder for records, rejects and the ledger.
        run: How the run goes.
        progress: Show a bar on standard error.
        **parts: ``source``, ``prepare``, ``annotators`` or ``prompt`` as instances instead of those in
            ``config``; not with Ray, whose workers build their own.

    Raises:
        FaceMLLMError: If the configuration does not fit, differs from that of the folder, or the endpoint
            does not answer.

    Example:
        >>> config = AnnotateConfig(images="photos", annotator=AnnotatorConfig(
        ...     options={"model": "qwen2.5-vl-7b", "endpoint": "http://localhost:8000/v1"}))  # doctest: +SKIP
        >>> annotate(config, "annotations").totals.records  # doctest: +SKIP
        950
    """
    run, folder, began = run or RunConfig(), Path(out), time.monotonic()
    if run.ray is not None and parts:
        raise ConfigError(
            "cannot send instances to Ray workers",
            given=", ".join(parts),
            expected="a configuration alone",
            do="register the part under a name, in an entry point",
        )
    check_folder(folder)  # before a model is loaded
    built = build_parts(config, **parts)
    folder.mkdir(parents=True, exist_ok=True)
    with Bar(built.source.count() if progress else None, enabled=progress) as bar:
        if run.ray is None:
            totals, counts, skipped, stopped = _here(config, run, built, folder, bar.ended)
        else:
            from facemllm.annotation.cluster import run_on_ray

            totals, counts, skipped, stopped = run_on_ray(
                config, run, built.source, folder, built.prompt.hash, bar.ended
            )
    agreement = agreement_report(counts) if counts else {}
    seconds = time.monotonic() - began
    summary = Summary(totals, skipped, stopped, seconds, agreement, folder, config.priced)
    _write_json(
        folder / "config.json",
        {"annotate": config.model_dump(mode="json"), "prompt_hash": built.prompt.hash},
    )
    _write_json(folder / "summary.json", summary.to_dict())
    if agreement:
        _write_json(folder / "agreement.json", agreement)
    return summary


def build_engine(
    config: AnnotateConfig,
    run: RunConfig,
    parts: Parts,
    ledger: Book,
    on_end: Callable[[End], None] | None = None,
) -> Engine:
    """Put the engine together."""
    return Engine(
        prepare=parts.prepare,
        judges=build_judges(config, run, parts.annotators, parts.prompt),
        ledger=ledger,
        concurrency=run.concurrency,
        threads=run.threads,
        budget=run.budget,
        expected=expected_cost(config, parts.prompt),
        keep_crops=config.keep_crops and config.format == "webdataset",
        give_up_after=run.give_up_after,
        on_end=on_end,
    )


def _here(
    config: AnnotateConfig,
    run: RunConfig,
    parts: Parts,
    out: Path,
    on_end: Callable[[End, Totals], None],
) -> tuple[Totals, list[tuple[int, str, str, str, int]], int, str | None]:
    """Run the engine in this process."""
    ledger = Ledger(
        out, config.binding(parts.prompt.hash), format=config.format, shard_size=config.shard_size
    )
    try:
        engine = build_engine(config, run, parts, ledger, lambda end: on_end(end, ledger.totals))
        asyncio.run(_run_and_close(engine, parts))
        ledger.seal()
        return ledger.totals, ledger.agreement_counts(), engine.skipped, engine.stopped
    except sqlite3.Error as error:
        raise FaceMLLMError(
            "cannot write the ledger",
            given=f"{out} ({error})",
            expected="a folder on a local disk with room",
            do="free space and run the same command again; nothing that was written is lost",
        ) from None
    finally:
        ledger.close()


async def _run_and_close(engine: Engine, parts: Parts) -> None:
    try:
        await engine.run(iter(parts.source))
    finally:
        for annotator in parts.annotators:
            await annotator.close()


def dry_run(
    config: AnnotateConfig,
    out: str | os.PathLike[str] | None = None,
    run: RunConfig | None = None,
    *,
    sample: int = 32,
    **parts: Any,
) -> dict[str, Any]:
    """Count pictures, try the first few of them, and estimate tokens and cost; nobody is asked anything.

    All that :func:`annotate` would refuse is refused here too, but for an endpoint or a cluster that does not
    answer. A local annotator is therefore loaded, as it would be.

    Args:
        config: What would be annotated.
        out: The folder it would go to, which is neither made nor changed; None leaves it unchecked.
        run: How the run would go.
        sample: How many pictures are filtered and cropped to see which share passes.
        **parts: ``source``, ``prepare``, ``annotators`` or ``prompt`` as instances instead of those in
            ``config``.

    Returns:
        ``images``, ``tried``, ``pass_share``, ``rejects`` by reason, and ``estimate``: pictures to ask about,
        tokens, and US dollars (None without prices).

    Raises:
        FaceMLLMError: If the configuration does not fit, or the folder holds something else.
    """
    if out is not None:
        check_folder(Path(out))
    built = build_parts(config, **parts)
    if out is not None:
        check_folder(Path(out), config.binding(built.prompt.hash))
    if run is not None and run.ray is not None:
        import_ray("annotation over many machines")
    source, prepare, prompt = built.source, built.prepare, built.prompt
    count = source.count()
    passed, reasons = 0, dict[str, int]()
    for item in _first(iter(source), sample):
        prepared = prepare(item)
        if isinstance(prepared, Rejection):
            reasons[prepared.reason] = reasons.get(prepared.reason, 0) + 1
        else:
            passed += 1
    tried = passed + sum(reasons.values())
    share = passed / tried if tried else 0.0
    asked = round((tried if count is None else count) * share)
    cost = expected_cost(config, prompt).times(asked)
    return {
        "images": count,
        "tried": tried,
        "pass_share": round(share, 4),
        "rejects": dict(sorted(reasons.items())),
        "estimate": {
            "asked": asked,
            "tokens_in": round(cost.tokens_in),
            "tokens_out": round(cost.tokens_out),
            "usd": round(cost.usd, 4) if config.priced else None,
        },
        "prompt": prompt.version,
        "prompt_hash": prompt.hash,
    }


def _first(items: Iterator[Any], count: int) -> Iterator[Any]:
    for _, item in zip(range(count), items, strict=False):
        yield item


def _write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(path)
