"""One annotator at work on one crop: ask, ask again later, check, re-ask once, or give up with a reason."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Protocol

from pydantic import Field

from facemllm.annotation.annotators.base import (
    Annotator,
    Busy,
    NoAnswer,
    Question,
    Reply,
    Stated,
    Unusable,
)
from facemllm.annotation.answer import Fault, Given, read_answer
from facemllm.annotation.entries import ANSWER, Known, Request, Usage
from facemllm.annotation.items import Prepared
from facemllm.annotation.prompt import Prompt
from facemllm.annotation.records import Provenance
from facemllm.annotation.wording import check_caption, check_traits, neutral
from facemllm.core.config import StrictModel

ENDPOINT_FAILED = "endpoint_failed"
"""The reason of a picture about which the endpoint gave no usable reply, however often it was asked."""

REQUEST_REFUSED = "request_refused"
"""The reason of a picture whose request the endpoint would not take."""

_MOST_QUOTED = 4000  # characters of an unusable answer that are shown to the annotator again


class Requests(Protocol):
    """The part of a ledger that an annotator at work needs."""

    run: str

    async def sending(self, request: Request) -> None:
        """Write down a request before it is sent."""
        ...

    async def busy(self, outcome: str) -> None:
        """Count an answer that only says that there is none yet."""
        ...

    async def answered(self, request: Request, outcome: str, reply: str | None, usage: Usage) -> None:
        """Write down its answer."""
        ...


class Patience(StrictModel):
    """How long and how often an annotator is asked.

    Attributes:
        retries: How often a request is sent again when the endpoint is busy or silent.
        timeout: Seconds for one reply.
        first_wait: Seconds before the first retry; doubled each time, and drawn between half and all of it.
        longest_wait: Most seconds between tries, also where ``Retry-After`` says more.
    """

    retries: int = Field(default=8, ge=0)
    timeout: float = Field(default=120.0, gt=0, allow_inf_nan=False)
    first_wait: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    longest_wait: float = Field(default=60.0, ge=0, allow_inf_nan=False)

    def wait(self, tries: int, after: float | None, rng: random.Random) -> float:
        """Return the seconds to wait after so many failed tries (1 and up).

        Example:
            >>> Patience().wait(1, 7.0, random.Random(0))
            7.0
        """
        backoff = self.first_wait * 2 ** min(tries - 1, 30) * rng.uniform(0.5, 1.0)
        return min(max(backoff, after or 0.0), self.longest_wait)


@dataclass
class Verdict:
    """What came of asking one annotator about one crop.

    Attributes:
        given: The answer, or None.
        fault: Why there is none.
        caption: The caption as it is stored.
        neutralised: Whether words were taken out of it.
        provenance: Of the answer.
    """

    given: Given | None
    fault: Fault | None
    caption: str
    neutralised: bool
    provenance: Provenance


@dataclass
class _Course:
    """What has happened about one crop so far."""

    item: str
    known: dict[int, Known]  # by round: what earlier runs sent
    usage: Usage = field(default_factory=Usage)
    requests: int = 0
    served: str | None = None

    def add(self, reply: Reply, usage: Usage) -> None:
        """Count a reply."""
        self.usage, self.requests = self.usage + usage, self.requests + 1
        self.served = reply.served or self.served


class Judge:
    """An annotator with its prompt, its terms, and our patience with it.

    Args:
        annotator: Answers.
        prompt: What is asked and what an answer is held to.
        number: 0 for the annotator, 1 and up for second opinions.
        stated: Terms and prices.
        patience: Time-outs and retries.
        seed: Draws the jitter of waits.
    """

    def __init__(
        self,
        annotator: Annotator,
        prompt: Prompt,
        *,
        number: int = 0,
        stated: Stated | None = None,
        patience: Patience | None = None,
        seed: int | None = None,
    ) -> None:
        self.annotator, self.prompt, self.number = annotator, prompt, number
        self.stated, self.patience = stated or Stated(), patience or Patience()
        self._rng = random.Random(seed)
        untimed = getattr(annotator, "untimed", False)
        self._timeout = None if untimed else self.patience.timeout

    async def __call__(
        self, item: str, prepared: Prepared, history: Sequence[Known], ledger: Requests
    ) -> Verdict:
        """Ask about a crop until there is a verdict.

        Args:
            item: Id of the picture.
            prepared: Its crop.
            history: Requests that earlier runs sent about it; a reply that came then is used now.
            ledger: Where requests are written down.

        Raises:
            FaceMLLMError: If the annotator will not answer about any picture.
        """
        known = {one.request.round: one for one in history if one.request.judge == self.number}
        course, began = _Course(item, known), time.monotonic()
        turns: list[tuple[str, str]] = []
        given: Given | None = None
        fault: Fault | None = None
        for round_ in (0, 1):
            question = Question(self.prompt, prepared.jpeg, item, tuple(turns))
            try:
                reply = await self._send(question, round_, course, ledger)
            except Unusable as error:
                fault = Fault(error.reason, f"{error.outcome}: {error.detail}")
                break
            except (Busy, NoAnswer) as error:
                fault = Fault(ENDPOINT_FAILED, f"{error.outcome}, after {self.patience.retries + 1} requests")
                break
            read = self._read(reply)
            if isinstance(read, Given):
                given, fault = read, None
                break
            fault = read
            if fault.reason == "refused":  # a no is an answer; it is not argued with
                break
            turns.append(((reply.text or "")[:_MOST_QUOTED], self.prompt.repair(fault.detail)))
        caption, changed = (
            ("", False) if given is None else neutral(given.caption, self.prompt.file, self.prompt.include)
        )
        return Verdict(
            given,
            fault,
            caption,
            changed,
            self._provenance(course, began, repaired=bool(turns) and given is not None),
        )

    def _read(self, reply: Reply) -> Given | Fault:
        if reply.refusal or reply.finish == "content_filter":
            return Fault("refused", (reply.refusal or "withheld by the endpoint's filter")[:200])
        read = read_answer(
            reply.text, self.prompt.answer, finish=reply.finish, refusals=self.prompt.file.refusals
        )
        if isinstance(read, Given):
            file, include = self.prompt.file, self.prompt.include
            return check_caption(read.caption, file) or check_traits(read.caption, file, include) or read
        return read

    async def _send(self, question: Question, round_: int, course: _Course, ledger: Requests) -> Reply:
        """Send a request, again and again where that may help; each time it is written down first.

        It stays the same request, under the same key, however often it is sent, in this run or another.
        """
        request, tries = Request(course.item, self.number, round_), 0
        known = course.known.get(round_)
        if known is not None and known.reply is not None:  # an earlier run got it and had no time to use it
            reply = Reply(**json.loads(known.reply))
            course.add(reply, known.usage)
            return reply
        while True:
            await ledger.sending(request)
            failure: Busy | NoAnswer
            try:
                reply = await asyncio.wait_for(
                    self.annotator(question, key=request.key(ledger.run)), self._timeout
                )
            except Busy as busy:
                await ledger.busy(busy.outcome)
                failure = busy
            except (NoAnswer, asyncio.TimeoutError) as silence:
                failure = silence if isinstance(silence, NoAnswer) else NoAnswer("timeout")
            except Unusable as refused:
                await ledger.answered(request, refused.outcome, None, Usage())
                course.requests += 1
                raise
            else:
                cost = self.stated.cost(reply.tokens_in, reply.tokens_out)
                usage = Usage(reply.tokens_in, reply.tokens_out, cost)
                await ledger.answered(request, ANSWER, json.dumps(asdict(reply)), usage)
                course.add(reply, usage)
                return reply
            tries += 1
            if tries > self.patience.retries:
                raise failure
            await asyncio.sleep(self.patience.wait(tries, getattr(failure, "after", None), self._rng))

    def _provenance(self, course: _Course, began: float, *, repaired: bool) -> Provenance:
        priced = self.stated.price_in is not None or self.stated.price_out is not None
        return Provenance(
            annotator=self.annotator.name,
            model=self.annotator.model,
            served=course.served,
            endpoint=self.annotator.endpoint,
            prompt=self.prompt.version,
            prompt_hash=self.prompt.hash,
            parameters=self.annotator.parameters,
            terms=self.stated.terms,
            time=now(),
            seconds=round(time.monotonic() - began, 3),
            requests=course.requests,
            repaired=repaired,
            tokens_in=course.usage.tokens_in,
            tokens_out=course.usage.tokens_out,
            cost_usd=round(course.usage.cost, 8) if priced else None,
        )


def now() -> str:
    """Return the time as records carry it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
