"""What the ledger writes down: requests, how pictures end, and totals."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

RECORD, REJECT = "record", "reject"

ANSWER = "answer"
"""The outcome of a request that got a reply, good or bad."""


@dataclass(frozen=True)
class Request:
    """A request, by what it is about.

    Attributes:
        item: Id of the picture.
        judge: 0 for the annotator, 1 and up for second opinions.
        round: 0 for the first question, 1 for the re-ask.
    """

    item: str
    judge: int
    round: int

    def key(self, run: str) -> str:
        """Return the key it is sent under: the same for the same request; it tells nothing of the picture."""
        text = json.dumps([run, self.item, self.judge, self.round])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Usage:
    """Tokens and money of one or more replies."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out, self.cost + other.cost
        )


@dataclass(frozen=True)
class Known:
    """A request that was sent, as the ledger knows it.

    Attributes:
        request: Which.
        outcome: What settled it; None if it still has no answer.
        reply: The reply as JSON, where it was one.
        usage: Tokens and money of it.
    """

    request: Request
    outcome: str | None
    reply: str | None
    usage: Usage


@dataclass(frozen=True)
class End:
    """How a picture ended.

    Attributes:
        item: Its id.
        kind: "record" or "reject".
        reason: Of a reject.
        body: The record or reject as JSON.
        crop: JPEG for a webdataset shard, where crops are kept.
        agreement: Counts of (judge, attribute, one, other).
    """

    item: str
    kind: str
    reason: str
    body: str
    crop: bytes | None = None
    agreement: tuple[tuple[int, str, str, str], ...] = ()


@dataclass
class Totals:
    """What has happened so far, over all runs of the same folder.

    Attributes:
        records: Pictures that ended as records.
        rejects: By reason.
        asked: Pictures about which at least one request was sent.
        sent: Requests that were sent.
        answered: Requests that were settled by an answer, by outcome: "answer", or "http 400" and the like.
        busy: Answers that only say that there is none yet, by outcome: "http 429", "http 500".
        usage: Tokens and money of all answers.
    """

    records: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    asked: int = 0
    sent: int = 0
    answered: dict[str, int] = field(default_factory=dict)
    busy: dict[str, int] = field(default_factory=dict)
    usage: Usage = Usage()

    @property
    def images(self) -> int:
        """Pictures that have an end."""
        return self.records + sum(self.rejects.values())

    @property
    def unanswered(self) -> int:
        """Times that no answer came: timed out, cut off, or under way when a run was killed."""
        return self.sent - sum(self.answered.values()) - sum(self.busy.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "images": self.images,
            "records": self.records,
            "rejects": dict(sorted(self.rejects.items())),
            "requests": {
                "sent": self.sent,
                "answered": dict(sorted(self.answered.items())),
                "busy": dict(sorted(self.busy.items())),
                "unanswered": self.unanswered,
            },
            "tokens": {"in": self.usage.tokens_in, "out": self.usage.tokens_out},
            "cost_usd": round(self.usage.cost, 6),
        }
