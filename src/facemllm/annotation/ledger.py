"""The ledger: every request before it is sent, every picture's end, and the totals.

One SQLite file in write-ahead mode. A request is written down, and the transaction closed, before it is sent;
a picture's record and its end are one transaction. So a process may be killed at any moment: what is written
is whole, a request that was under way is known and sent again under the same key, a reply that came is used
and not asked for again, and a picture that has an end is never asked about again.
"""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn

from facemllm.annotation.entries import ANSWER, RECORD, REJECT, End, Known, Request, Totals, Usage
from facemllm.annotation.store import ShardWriter
from facemllm.core.errors import ConfigError, FaceMLLMError

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (
    item TEXT, judge INTEGER, round INTEGER, sent INTEGER, outcome TEXT,
    tokens_in INTEGER DEFAULT 0, tokens_out INTEGER DEFAULT 0, cost REAL DEFAULT 0,
    PRIMARY KEY (item, judge, round)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ends (
    number INTEGER PRIMARY KEY, item TEXT UNIQUE, kind TEXT, reason TEXT, shard INTEGER
);
CREATE TABLE IF NOT EXISTS busy (outcome TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID;
-- What is long stands apart and is deleted when it has served, so that its place in the file is used again.
CREATE TABLE IF NOT EXISTS replies (
    item TEXT, judge INTEGER, round INTEGER, reply TEXT, PRIMARY KEY (item, judge, round)
);
CREATE TABLE IF NOT EXISTS bodies (
    number INTEGER PRIMARY KEY, kind TEXT, shard INTEGER, body TEXT, crop BLOB
);
CREATE TABLE IF NOT EXISTS agreement (
    judge INTEGER, attribute TEXT, one TEXT, other TEXT, n INTEGER, PRIMARY KEY (judge, attribute, one, other)
) WITHOUT ROWID;
"""


class Ledger:
    """The ledger of one output folder, and the only writer of its shards.

    Its methods that the engine calls are coroutines, though they never wait: the same engine works with a
    ledger on another machine (:mod:`facemllm.annotation.cluster`).

    Args:
        out: The output folder; made if missing.
        binding: The configuration that must stay the same from run to run.
        format: Of shards, "jsonl" or "webdataset".
        shard_size: Records to a shard.
        lock_wait: Seconds to wait for another process that works in the folder.

    Raises:
        ConfigError: If the folder was begun with another configuration, or another process works in it.
    """

    def __init__(
        self,
        out: Path,
        binding: Mapping[str, Any],
        *,
        format: str = "jsonl",
        shard_size: int = 1000,
        lock_wait: float = 0.0,
    ) -> None:
        check_folder(out)
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.shard_size = out, shard_size
        self.writer = ShardWriter(out, format)
        self._lock = _locked(out, lock_wait)
        try:
            self._db = sqlite3.connect(out / "ledger.sqlite", isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_TABLES)
            self.run = self._same_configuration(dict(binding))
        except sqlite3.DatabaseError as error:
            raise _unusable(out, error) from None
        self.totals = self._count()
        self._open = {kind: self._unsealed(kind) for kind in (RECORD, REJECT)}
        self._next = {kind: self._next_shard(kind) for kind in (RECORD, REJECT)}
        self._finish_shards()

    # --- what the engine calls

    async def claim(self, items: Iterable[str]) -> dict[str, list[Known]]:
        """Return those pictures that have no end yet, each with the requests already sent about it."""
        wanted = list(items)
        marks = ",".join("?" * len(wanted))
        done = {row[0] for row in self._db.execute(f"SELECT item FROM ends WHERE item IN ({marks})", wanted)}
        known: dict[str, list[Known]] = {item: [] for item in wanted if item not in done}
        rows = self._db.execute(
            "SELECT item, judge, round, outcome, reply, tokens_in, tokens_out, cost "
            f"FROM requests LEFT JOIN replies USING (item, judge, round) WHERE item IN ({marks})",
            wanted,
        )
        for item, judge, round_, outcome, reply, *usage in rows:
            if item in known:
                known[item].append(Known(Request(item, judge, round_), outcome, reply, Usage(*usage)))
        return known

    async def sending(self, request: Request) -> None:
        """Write down that a request is about to be sent, for the first time or again."""
        times = self._db.execute(
            "INSERT INTO requests (item, judge, round, sent) VALUES (?, ?, ?, 1) "
            "ON CONFLICT DO UPDATE SET sent = sent + 1 RETURNING sent",
            (request.item, request.judge, request.round),
        ).fetchone()[0]
        self.totals.sent += 1
        self.totals.asked += request.judge == request.round == 0 and times == 1

    async def busy(self, outcome: str) -> None:
        """Count an answer that only says that there is none yet."""
        self._db.execute("INSERT INTO busy VALUES (?, 1) ON CONFLICT DO UPDATE SET n = n + 1", (outcome,))
        self.totals.busy[outcome] = self.totals.busy.get(outcome, 0) + 1

    async def answered(self, request: Request, outcome: str, reply: str | None, usage: Usage) -> None:
        """Write down what settles a request; the reply is kept until the picture has its end.

        A second reply to the same request changes nothing; a reply replaces a refusal of the request.
        """
        where = (request.item, request.judge, request.round)
        this = "WHERE item = ? AND judge = ? AND round = ?"
        before = self._db.execute(f"SELECT outcome FROM requests {this}", where).fetchone()
        if before is None or before[0] == ANSWER:
            return
        with self._transaction():
            self._db.execute(
                f"UPDATE requests SET outcome = ?, tokens_in = ?, tokens_out = ?, cost = ? {this}",
                (outcome, usage.tokens_in, usage.tokens_out, usage.cost, *where),
            )
            if reply is not None:
                self._db.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", (*where, reply))
        if before[0] is not None:
            self.totals.answered[before[0]] -= 1
        self.totals.answered[outcome] = self.totals.answered.get(outcome, 0) + 1
        self.totals.usage += usage

    async def finish(self, end: End) -> None:
        """Write down how a picture ended. A second end of the same picture changes nothing."""
        with self._transaction():
            ended = self._db.execute(
                "INSERT OR IGNORE INTO ends (item, kind, reason) VALUES (?, ?, ?)",
                (end.item, end.kind, end.reason),
            )
            added = ended.rowcount
            if added:
                self._db.execute(
                    "INSERT INTO bodies (number, kind, body, crop) VALUES (?, ?, ?, ?)",
                    (ended.lastrowid, end.kind, end.body, end.crop),
                )
                self._db.execute("DELETE FROM replies WHERE item = ?", (end.item,))
                self._db.executemany(
                    "INSERT INTO agreement VALUES (?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET n = n + 1",
                    end.agreement,
                )
        if not added:
            return
        if end.kind == RECORD:
            self.totals.records += 1
        else:
            self.totals.rejects[end.reason] = self.totals.rejects.get(end.reason, 0) + 1
        self._open[end.kind] += 1
        if self._open[end.kind] >= self.shard_size:
            self._seal(end.kind)

    async def spent(self) -> Totals:
        """Return the totals."""
        return self.totals

    # --- shards

    def seal(self) -> None:
        """Write what is not in a shard yet, as a last and smaller one."""
        for kind in (RECORD, REJECT):
            if self._open[kind]:
                self._seal(kind)

    def _seal(self, kind: str) -> None:
        """Give pictures a shard number, write the shard, then let go of their bodies.

        Killed after the first step, the next run writes the same shard again; the file is replaced whole.
        """
        self._db.execute(
            "UPDATE bodies SET shard = ? WHERE kind = ? AND shard IS NULL", (self._next[kind], kind)
        )
        self._next[kind] += 1
        self._finish_shards()

    def _finish_shards(self) -> None:
        pending = self._db.execute(
            "SELECT DISTINCT kind, shard FROM bodies WHERE shard IS NOT NULL"
        ).fetchall()
        for kind, shard in pending:
            which = "FROM bodies WHERE kind = ? AND shard = ?"
            self.writer.write(
                kind,
                shard,
                self._db.execute(f"SELECT body, crop {which} ORDER BY number", (kind, shard)),
            )
            with self._transaction():
                self._db.execute(
                    f"UPDATE ends SET shard = ? WHERE number IN (SELECT number {which})", (shard, kind, shard)
                )
                gone = self._db.execute(f"DELETE {which}", (kind, shard)).rowcount
            self._open[kind] = max(self._open[kind] - gone, 0)

    def _unsealed(self, kind: str) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM bodies WHERE kind = ?", (kind,)).fetchone()[0])

    def _next_shard(self, kind: str) -> int:
        row = self._db.execute(
            "SELECT COALESCE(MAX(shard), -1) + 1 FROM "
            "(SELECT shard FROM ends WHERE kind = ? UNION ALL SELECT shard FROM bodies WHERE kind = ?)",
            (kind, kind),
        ).fetchone()
        return int(row[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # --- reading

    def agreement_counts(self) -> list[tuple[int, str, str, str, int]]:
        """Return (judge, attribute, what the annotator said, what the judge said, how often)."""
        return self._db.execute("SELECT * FROM agreement").fetchall()

    def close(self) -> None:
        """Close the file and let others in."""
        self._db.close()
        self._lock.close()

    def _count(self) -> Totals:
        one = self._db.execute
        totals = Totals(usage=Usage(*one(
            "SELECT COALESCE(SUM(tokens_in), 0), COALESCE(SUM(tokens_out), 0), COALESCE(SUM(cost), 0) "
            "FROM requests"
        ).fetchone()))  # fmt: skip
        totals.sent = one("SELECT COALESCE(SUM(sent), 0) FROM requests").fetchone()[0]
        totals.asked = one("SELECT COUNT(DISTINCT item) FROM requests").fetchone()[0]
        totals.answered = dict(
            one(
                "SELECT outcome, COUNT(*) FROM requests WHERE outcome IS NOT NULL GROUP BY outcome"
            ).fetchall()
        )
        totals.busy = dict(one("SELECT * FROM busy").fetchall())
        totals.records = one("SELECT COUNT(*) FROM ends WHERE kind = ?", (RECORD,)).fetchone()[0]
        totals.rejects = dict(
            one("SELECT reason, COUNT(*) FROM ends WHERE kind = ? GROUP BY reason", (REJECT,)).fetchall()
        )
        return totals

    def _same_configuration(self, binding: dict[str, Any]) -> str:
        """Store the configuration, or compare it with the stored one; return the run's name."""
        text = json.dumps(binding, sort_keys=True)
        self._db.execute(
            "INSERT OR IGNORE INTO meta VALUES ('begun', ?)", (json.dumps([uuid.uuid4().hex, text]),)
        )
        run, stored = json.loads(
            self._db.execute("SELECT value FROM meta WHERE name = 'begun'").fetchone()[0]
        )
        if stored != text:
            self.close()
            _refuse(self.out, json.loads(stored), binding)
        return str(run)


def check_folder(out: Path, binding: Mapping[str, Any] | None = None) -> None:
    """Say whether a run could write to a folder, without making or changing anything.

    Args:
        out: The output folder, which need not be there yet.
        binding: The configuration; compared with that of a run that the folder holds.

    Raises:
        ConfigError: If the folder is a file or cannot be written to, another process works in it, or it was
            begun with another configuration.
    """
    place = out
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(
            "cannot write to the output folder",
            given=f"{out}, where {place} is {'closed to you' if place.is_dir() else 'a file'}",
            expected="a folder that can be made, or written to",
            do="choose another --out",
        )
    if binding is None or not (out / "ledger.sqlite").is_file():
        return
    if (out / "lock").is_file():
        _locked(out, 0.0).close()
    try:
        with closing(
            sqlite3.connect(f"{(out / 'ledger.sqlite').resolve().as_uri()}?mode=ro", uri=True)
        ) as db:
            begun = db.execute("SELECT value FROM meta WHERE name = 'begun'").fetchone()
    except sqlite3.DatabaseError as error:
        raise _unusable(out, error) from None
    if begun is not None:
        stored = json.loads(json.loads(begun[0])[1])
        if stored != json.loads(json.dumps(dict(binding))):
            _refuse(out, stored, binding)


def _refuse(out: Path, before: Mapping[str, Any], binding: Mapping[str, Any]) -> NoReturn:
    differing = sorted(key for key in {*before, *binding} if before.get(key) != binding.get(key))
    raise ConfigError(
        "the output folder was begun with another configuration",
        given="; ".join(f"{key}: {_short(binding.get(key))}" for key in differing),
        expected="; ".join(f"{key}: {_short(before.get(key))}" for key in differing),
        do=f"choose another --out, or the same values as in {out}",
    )


def _unusable(out: Path, error: sqlite3.Error) -> FaceMLLMError:
    return FaceMLLMError(
        "cannot use the ledger",
        given=f"{out / 'ledger.sqlite'} ({error})",
        expected="a ledger of this version on a local disk with room",
        do="free space, or choose another output folder",
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _locked(out: Path, wait: float) -> sqlite3.Connection:
    """Hold the folder until the process ends, however it ends: the system lets go of the lock."""
    lock = sqlite3.connect(out / "lock", isolation_level=None, timeout=wait, check_same_thread=False)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        lock.close()
        raise ConfigError(
            "another process is at work in the output folder",
            given=out,
            expected="a folder that no other run writes to",
            do="wait for the other run, or choose another --out",
        ) from None
    return lock
