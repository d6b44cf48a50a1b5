"""The engine: pictures stream through prepare and ask, side by side, and each is written down at its end.

Three kinds of workers, joined by short queues, so that memory does not grow with the source: one reads the
source and leaves out what has an end already, some prepare pictures in threads, and many wait for answers.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from facemllm.annotation.answer import Given
from facemllm.annotation.budget import Budget, Estimate
from facemllm.annotation.entries import RECORD, REJECT, End, Known, Totals
from facemllm.annotation.items import Item, Prepared, Rejection
from facemllm.annotation.judge import ENDPOINT_FAILED, REQUEST_REFUSED, Judge, Requests, Verdict, now
from facemllm.annotation.records import Annotation, Opinion, Picture, Reject
from facemllm.core.errors import FaceMLLMError
from facemllm.faces import Face

History = list[Known]
Prepare = Callable[[Item], Prepared | Rejection]

_CHUNK = 32  # pictures that are looked up in the ledger together


class Book(Requests, Protocol):
    """What the engine needs of a ledger."""

    async def claim(self, items: Sequence[str]) -> dict[str, History]:
        """Return the pictures without an end, and the requests sent about them."""
        ...

    async def finish(self, end: End) -> None:
        """Write down how a picture ended."""
        ...

    async def spent(self) -> Totals:
        """Return the totals."""
        ...


@dataclass(frozen=True)
class _Ready:
    item: Item
    history: History
    prepared: Prepared


class Engine:
    """Runs pictures from a source through preparation, one or more judges, and into a ledger.

    Args:
        prepare: From an item to a crop, or a reason. Called in threads.
        judges: The annotator, and those that give second opinions.
        ledger: Writes down everything.
        concurrency: Pictures that are asked about at the same time.
        threads: Pictures that are prepared at the same time.
        budget: What may be spent.
        expected: Of one picture, for the budget's first decisions.
        keep_crops: Store crops beside records (webdataset shards only).
        give_up_after: Pictures in a row about which the endpoint gave no usable reply, after which the run
            ends with an error. They stay without an end, and the next run asks about them again.
        on_end: Called after every picture that ended.
    """

    def __init__(
        self,
        *,
        prepare: Prepare,
        judges: Sequence[Judge],
        ledger: Book,
        concurrency: int = 16,
        threads: int = 2,
        budget: Budget | None = None,
        expected: Estimate | None = None,
        keep_crops: bool = False,
        give_up_after: int = 20,
        on_end: Callable[[End], None] | None = None,
    ) -> None:
        self.prepare, self.judges, self.ledger = prepare, tuple(judges), ledger
        self.concurrency, self.threads = concurrency, threads
        self.budget, self.expected = budget or Budget(), expected or Estimate()
        self.keep_crops, self.give_up_after, self.on_end = keep_crops, give_up_after, on_end
        self.stopped: str | None = None
        self.skipped = 0
        self._under_way = 0
        self._failed: list[End] = []
        self._busy: set[str] = set()  # ids on their way, so that a source that repeats one asks once
        self._replied = False
        self._admission, self._ended = asyncio.Lock(), asyncio.Event()

    async def run(self, source: Iterator[Item]) -> None:
        """Work until the source is empty or the budget is spent.

        Raises:
            FaceMLLMError: If the annotator will not answer about any picture, or has not for too many in a
                row.
        """
        todo: asyncio.Queue[tuple[Item, History] | None] = asyncio.Queue(2 * self.threads)
        ready: asyncio.Queue[_Ready | None] = asyncio.Queue(max(2, self.concurrency // 2))
        with ThreadPoolExecutor(self.threads + 1, "annotate") as pool:
            preparing = [asyncio.create_task(self._preparing(todo, ready, pool)) for _ in range(self.threads)]
            asking = [asyncio.create_task(self._asking(ready)) for _ in range(self.concurrency)]
            reading = asyncio.create_task(self._reading(source, todo, pool))
            tasks = [reading, *preparing, *asking]

            async def in_order() -> None:
                await reading
                await _end(todo, preparing)
                await _end(ready, asking)

            tasks.append(asyncio.create_task(in_order()))
            try:
                finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
                for task in finished:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        if not self._replied:
            self._give_up()
        await self._settle()

    # --- the three kinds of workers

    async def _reading(
        self,
        source: Iterator[Item],
        todo: asyncio.Queue[tuple[Item, History] | None],
        pool: ThreadPoolExecutor,
    ) -> None:
        loop, stream = asyncio.get_running_loop(), iter(source)
        while self.stopped is None:
            chunk = await loop.run_in_executor(pool, lambda: list(itertools.islice(stream, _CHUNK)))
            if not chunk:
                return
            claimed = await self.ledger.claim([item.id for item in chunk])
            fresh = {item.id: item for item in chunk if item.id in claimed and item.id not in self._busy}
            self._busy.update(fresh)
            self.skipped += len(chunk) - len(fresh)
            for name, item in fresh.items():
                await todo.put((item, claimed[name]))

    async def _preparing(
        self,
        todo: asyncio.Queue[tuple[Item, History] | None],
        ready: asyncio.Queue[_Ready | None],
        pool: ThreadPoolExecutor,
    ) -> None:
        loop = asyncio.get_running_loop()
        while (next_ := await todo.get()) is not None:
            item, history = next_
            if self.stopped is not None and not history:
                continue
            prepared = await loop.run_in_executor(pool, self._prepared, item)
            if isinstance(prepared, Rejection):
                await self._finish(_reject(item, prepared.reason, prepared.detail, None, ()))
            else:
                await ready.put(_Ready(item, history, prepared))

    def _prepared(self, item: Item) -> Prepared | Rejection:
        """Prepare a picture; one that breaks a library must not end a run of millions."""
        try:
            return self.prepare(item)
        except FaceMLLMError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever a decoder or a detector may raise)
            return Rejection("unreadable", f"{type(error).__name__}: {error}"[:300])

    async def _asking(self, ready: asyncio.Queue[_Ready | None]) -> None:
        while (one := await ready.get()) is not None:
            # What was begun before is carried to its end, also where nothing new is begun any more.
            if (self.stopped is not None and not one.history) or not await self._admit(not one.history):
                continue
            try:
                end = await self._judge(one)
            finally:
                self._under_way -= 1
                self._ended.set()
            if end.reason in (ENDPOINT_FAILED, REQUEST_REFUSED):
                self._hold_back(end)
                continue
            self._replied = True
            await self._finish(end)
            await self._settle()

    async def _admit(self, new: bool) -> bool:
        """Count a picture as under way, or note that the budget is spent."""
        async with self._admission:  # one at a time, as a ledger on another machine answers later
            while True:
                self._ended.clear()
                spent = await self.ledger.spent()
                if self.budget.admits(spent, self._under_way, self.expected, new=new):
                    self._under_way += 1
                    return True
                if self._under_way == 0 or (new and self.budget.full(spent)):
                    self.stopped = "limit" if self.budget.full(spent) else "budget"
                    return False
                await self._ended.wait()  # what is under way may turn out cheaper than it is counted

    async def _judge(self, one: _Ready) -> End:
        """Ask the annotator, and where its answer can be used also the others, for their opinion."""
        verdicts = [await self.judges[0](one.item.id, one.prepared, one.history, self.ledger)]
        if verdicts[0].given is not None and len(self.judges) > 1:
            verdicts += await asyncio.gather(
                *(judge(one.item.id, one.prepared, one.history, self.ledger) for judge in self.judges[1:])
            )
        first = verdicts[0]
        if first.given is None:
            assert first.fault is not None
            return _reject(one.item, first.fault.reason, first.fault.detail, one.prepared, verdicts)
        return _record(one.item, one.prepared, first, verdicts[1:], self.keep_crops)

    # --- ends

    async def _finish(self, end: End) -> None:
        await self.ledger.finish(end)
        self._busy.discard(end.item)
        if self.on_end is not None:
            self.on_end(end)

    def _hold_back(self, end: End) -> None:
        """Keep a picture that got no usable reply: was it the picture, or the endpoint?"""
        self._failed.append(end)
        if len(self._failed) >= self.give_up_after:
            self._give_up()

    def _give_up(self) -> None:
        if self._failed:
            annotator = self.judges[0].annotator
            detail = Reject.model_validate_json(self._failed[-1].body).detail
            raise FaceMLLMError(
                "the endpoint gives no usable replies",
                given=f"{len(self._failed)} pictures in a row; the last: {detail}",
                expected=f"replies from {annotator.model!r} at {annotator.endpoint or 'this machine'}",
                do="look at the server, and at --structured; the same command then goes on from here",
            )

    async def _settle(self) -> None:
        """Write down the pictures that were held back; called after an answer, and at the end."""
        held, self._failed = self._failed, []
        for end in held:
            await self._finish(end)


def _picture(item: Item, prepared: Prepared | None) -> Picture:
    known = item.metadata
    return Picture(
        sha256=known.get("sha256") if prepared is None else prepared.sha256,
        size=None if prepared is None else prepared.size,
        url=known.get("url"),
        sample_id=known.get("sample_id"),
        licence=known.get("licence", "unknown"),
    )


def _reject(
    item: Item, reason: str, detail: str, prepared: Prepared | None, verdicts: Sequence[Verdict]
) -> End:
    paid = [verdict.provenance for verdict in verdicts]
    costs = [one.cost_usd for one in paid if one.cost_usd is not None]
    reject = Reject(
        id=item.id,
        reason=reason,
        detail=detail,
        picture=_picture(item, prepared),
        time=now(),
        requests=sum(one.requests for one in paid),
        tokens_in=sum(one.tokens_in for one in paid),
        tokens_out=sum(one.tokens_out for one in paid),
        cost_usd=sum(costs) if costs else None,
    )
    return End(item.id, REJECT, reason, reject.model_dump_json())


def _record(
    item: Item, prepared: Prepared, first: Verdict, others: Sequence[Verdict], keep_crops: bool
) -> End:
    assert first.given is not None
    opinions, counts = [], []
    for number, other in enumerate(others, start=1):
        opinions.append(_opinion(first.given, other))
        if other.given is not None:
            said = {**first.given.attributes, **first.given.labels}
            too = {**other.given.attributes, **other.given.labels}
            counts += [(number, name, said[name], too[name]) for name in said if name in too]
    record = Annotation(
        id=item.id,
        picture=_picture(item, prepared),
        face=None if prepared.face is None else face_to_dict(prepared.face),
        faces_found=prepared.faces_found,
        caption=first.caption,
        neutralised=first.neutralised,
        attributes=first.given.attributes,
        labels=first.given.labels,
        provenance=first.provenance,
        opinions=tuple(opinions),
    )
    crop = prepared.jpeg if keep_crops else None
    return End(item.id, RECORD, "", record.model_dump_json(), crop, tuple(counts))


def _opinion(first: Given, other: Verdict) -> Opinion:
    if other.given is None:
        assert other.fault is not None
        return Opinion(rejected=other.fault.reason, provenance=other.provenance)
    same = [seen == other.given.attributes.get(name) for name, seen in first.attributes.items()]
    return Opinion(
        caption=other.caption,
        attributes=other.given.attributes,
        labels=other.given.labels,
        agreement=round(sum(same) / len(same), 4) if same else None,
        provenance=other.provenance,
    )


def face_to_dict(face: Face) -> dict[str, Any]:
    """Return a face as plain values for JSON, in pixels of the upright picture.

    As in answers of models; written out here, as importing those would load transformers for every run.
    """
    return {
        "box": [round(float(value), 1) for value in face.box],
        "score": round(float(face.score), 3),
        "landmarks": [[round(float(x), 1), round(float(y), 1)] for x, y in face.landmarks],
    }


async def _end(queue: asyncio.Queue[Any], workers: Sequence[asyncio.Task[None]]) -> None:
    """Tell workers that nothing more comes, and wait for them."""
    for _ in workers:
        await queue.put(None)
    await asyncio.gather(*workers)
