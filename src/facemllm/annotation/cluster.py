"""The same steps over many machines with Ray Data.

The source is cut into parts. Each Ray worker runs the engine on one part after another; the ledger stays on
the machine where the command was started, in a Ray actor, and is the only writer. So records, totals and the
budget
are those of one run. When a worker dies, Ray gives its part to another, which skips what has an end and
sends what
was under way again, under the same keys. Pictures must be found at the same paths on every machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from facemllm.annotation.config import AnnotateConfig, RunConfig
from facemllm.annotation.entries import End, Known, Request, Totals, Usage
from facemllm.annotation.ledger import Ledger
from facemllm.annotation.sources import ImageSource, ShardSource, Source
from facemllm.core.cluster import join_cluster
from facemllm.core.errors import ConfigError, FaceMLLMError

_BLOCKS = 10_000  # most pieces of work that Ray keeps book of
_LOCK_WAIT = 30.0  # seconds: the actor of a killed run lets go of the folder a little later than it


def run_on_ray(
    config: AnnotateConfig,
    run: RunConfig,
    source: Source,
    out: Path,
    prompt_hash: str,
    on_progress: Callable[[End | None, Totals], None],
) -> tuple[Totals, list[tuple[int, str, str, str, int]], int, str | None]:
    """Annotate with Ray workers.

    Args:
        config: What is annotated; workers build their parts from it.
        run: How, with the address of the cluster.
        source: Cut into parts here.
        out: The output folder, on this machine.
        prompt_hash: Of the prompt.
        on_progress: Called when a part is done.

    Returns:
        Totals, agreement counts, pictures skipped, and why it stopped early.

    Raises:
        MissingExtraError: If Ray is not installed.
        FaceMLLMError: What a worker raised.
    """
    with contextlib.redirect_stdout(sys.stderr):  # Ray talks; standard output is for our result alone
        return _on_ray(_connected(run), config, run, source, out, prompt_hash, on_progress)


def _on_ray(
    ray: Any,
    config: AnnotateConfig,
    run: RunConfig,
    source: Source,
    out: Path,
    prompt_hash: str,
    on_progress: Callable[[End | None, Totals], None],
) -> tuple[Totals, list[tuple[int, str, str, str, int]], int, str | None]:
    actor = None
    try:
        here = ray.get_runtime_context().get_node_id()
        placed = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        actor = (
            ray.remote(_LedgerActor)
            .options(num_cpus=0, scheduling_strategy=placed)
            .remote(str(out.resolve()), config.binding(prompt_hash), config.format, config.shard_size)
        )
        name, trouble = ray.get(actor.begun.remote())
        _raise(trouble)
        if isinstance(source, ImageSource):  # a few parts for each worker, so that all have some to the end
            source.per_part = max(1, min(source.per_part, source.count() // (4 * run.ray_workers)))
        parts = [{"part": _described(part)} for part in source.parts()]
        done = ray.data.from_items(parts, override_num_blocks=min(len(parts), _BLOCKS)).map_batches(
            Worker,
            batch_size=1,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=run.ray_workers),  # which restarts workers that die
            fn_constructor_kwargs={
                "config": config.model_dump(mode="json"),
                "run": run.model_dump(mode="json"),
                "ledger": actor,
                "name": name,
            },
        )
        skipped, stopped = 0, None
        for row in done.iter_rows():
            _raise(row["trouble"])
            skipped, stopped = skipped + int(row["skipped"]), row["stopped"] or stopped
            on_progress(None, ray.get(actor.spent.remote()))
        totals, counts = ray.get(actor.close.remote())
        return totals, counts, skipped, stopped
    finally:
        if actor is not None:
            ray.kill(actor)
        ray.shutdown()


class Worker:
    """One Ray worker: the engine on one part of the source after another.

    Args:
        config: An :class:`AnnotateConfig` as plain values.
        run: A :class:`RunConfig` as plain values.
        ledger: Handle of the ledger's actor.
        name: Of the run, from which requests get their keys.
    """

    def __init__(self, *, config: dict[str, Any], run: dict[str, Any], ledger: Any, name: str) -> None:
        from facemllm.annotation.pipeline import build_parts

        self.config, self.run = AnnotateConfig.model_validate(config), RunConfig.model_validate(run)
        self.ledger = _RemoteLedger(ledger, name)
        self.loop = asyncio.new_event_loop()  # one for all parts, as connections belong to a loop
        self.parts = build_parts(self.config)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Work on the parts of a batch."""
        rows = [self.loop.run_until_complete(self._work(part)) for part in batch["part"]]
        return {key: [row[key] for row in rows] for key in ("skipped", "stopped", "trouble")}

    async def _work(self, part: str) -> dict[str, Any]:
        from facemllm.annotation.pipeline import build_engine

        engine = build_engine(self.config, self.run, self.parts, self.ledger)
        trouble = ""
        try:
            await engine.run(iter(_made(part)))
        except FaceMLLMError as error:  # as text, since errors with four parts do not travel as they are
            trouble = json.dumps([error.what, error.given, error.expected, error.do])
        return {"skipped": engine.skipped, "stopped": engine.stopped or "", "trouble": trouble}


class _LedgerActor:
    """The ledger in a process of its own, called from all machines, one call at a time."""

    def __init__(self, out: str, binding: dict[str, Any], format: str, shard_size: int) -> None:
        self.trouble = ""
        try:
            self.ledger = Ledger(
                Path(out), binding, format=format, shard_size=shard_size, lock_wait=_LOCK_WAIT
            )
        except FaceMLLMError as error:
            self.trouble = json.dumps([error.what, error.given, error.expected, error.do])

    async def begun(self) -> tuple[str, str]:
        return ("", self.trouble) if self.trouble else (self.ledger.run, "")

    async def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        return await getattr(self.ledger, method)(*arguments)

    async def spent(self) -> Totals:
        return self.ledger.totals

    async def close(self) -> tuple[Totals, list[tuple[int, str, str, str, int]]]:
        self.ledger.seal()
        totals, counts = self.ledger.totals, self.ledger.agreement_counts()
        self.ledger.close()
        return totals, counts


class _RemoteLedger:
    """The ledger as a worker sees it."""

    def __init__(self, actor: Any, run: str) -> None:
        self._actor, self.run = actor, run

    async def claim(self, items: Iterable[str]) -> dict[str, list[Known]]:
        return await self._actor.call.remote("claim", (list(items),))

    async def sending(self, request: Request) -> None:
        await self._actor.call.remote("sending", (request,))

    async def busy(self, outcome: str) -> None:
        await self._actor.call.remote("busy", (outcome,))

    async def answered(self, request: Request, outcome: str, reply: str | None, usage: Usage) -> None:
        await self._actor.call.remote("answered", (request, outcome, reply, usage))

    async def finish(self, end: End) -> None:
        await self._actor.call.remote("finish", (end,))

    async def spent(self) -> Totals:
        return await self._actor.spent.remote()


def _connected(run: RunConfig) -> Any:
    """Join the run's cluster, with Ray Data ready and silent."""
    join_cluster(run.ray or "local", run.ray_workers, needed_for="annotation over many machines")
    import ray.data
    import ray.util.scheduling_strategies

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    return ray


def _described(part: Source) -> str:
    """Return a part of a source as text."""
    if isinstance(part, ShardSource):
        value: dict[str, Any] = {"shards": [str(path.resolve()) for path in part.shards]}
    elif isinstance(part, ImageSource):
        value = {"root": str(part.root.resolve()), "files": _listed(part.files)}
    else:
        raise ConfigError(
            "cannot send a source to Ray workers",
            given=type(part).__name__,
            expected="images of a folder, or tar shards",
            do="pass a pattern",
        )
    return json.dumps({**value, "licence": part.licence})


def _made(text: str) -> Source:
    """Build a part again from its text."""
    value = json.loads(text)
    if "shards" in value:
        return ShardSource("", licence=value["licence"], shards=[Path(shard) for shard in value["shards"]])
    return ImageSource(value["root"], licence=value["licence"], files=value["files"])


def _listed(files: Sequence[str] | None) -> list[str]:
    return list(files or ())


def _raise(trouble: str) -> None:
    if trouble:
        what, given, expected, do = json.loads(trouble)
        raise FaceMLLMError(what, given=given, expected=expected, do=do)
