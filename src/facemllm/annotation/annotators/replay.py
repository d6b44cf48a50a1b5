"""Recorded answers: what was said once is said again, without a model and without cost."""

from __future__ import annotations

import glob
import json
import os
from pathlib import Path
from typing import Any

from facemllm.annotation.annotators.base import ANNOTATORS, Question, Reply, Unusable
from facemllm.core.errors import DatasetError


@ANNOTATORS.register("replay")
class ReplayAnnotator:
    """Answers from files of JSON lines, each with an ``id`` and a ``text``, or records of an earlier run.

    A line ``{"id": ..., "text": ...}`` is a reply as it came, good or bad; several lines of one id answer one
    re-ask after another. A record (a shard ``records-*.jsonl``) answers with its caption and attributes.

    Args:
        path: A file or a pattern of files. Only places in the files are held in memory.

    Raises:
        DatasetError: If nothing matches.
    """

    name = "replay"
    endpoint: str | None = None

    def __init__(self, *, path: str | os.PathLike[str], model: str | None = None) -> None:
        text = os.fspath(path)
        found = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 (patterns with a root)
        self._files = [Path(name) for name in found if Path(name).is_file()]
        if not self._files:
            raise DatasetError(
                "no recorded answers",
                given=repr(text),
                expected='JSON lines {"id": ..., "text": ...}, or records of an earlier run',
                do="check the path",
            )
        self.model, self.parameters = model or "replay", dict[str, Any]()
        self._places: dict[str, list[tuple[int, int]]] = {}
        for number, file in enumerate(self._files):
            self._index(number, file)

    async def __call__(self, question: Question, *, key: str) -> Reply:
        """Return the next recorded reply about a picture."""
        places = self._places.get(question.item, [])
        if not places:
            raise Unusable("not recorded", "no recorded answer has this id", reason="not_recorded")
        number, place = places[min(len(question.turns), len(places) - 1)]
        with self._files[number].open("rb") as file:
            file.seek(place)
            line = json.loads(file.readline())
        if "text" in line:
            return Reply(
                line["text"],
                line.get("finish", "stop"),
                line.get("refusal"),
                tokens_in=int(line.get("tokens_in", 0)),
                tokens_out=int(line.get("tokens_out", 0)),
                served=line.get("model"),
            )
        said = {"caption": line["caption"], "attributes": line["attributes"], **line.get("labels", {})}
        return Reply(json.dumps(said), served=line.get("provenance", {}).get("model"))

    async def close(self) -> None:
        """Nothing is held open."""

    def _index(self, number: int, file: Path) -> None:
        place = 0
        with file.open("rb") as lines:
            for line in lines:
                try:
                    value = json.loads(line)
                    usable = isinstance(value, dict) and ("text" in value or "caption" in value)
                    name = value["id"] if usable else None
                except (ValueError, KeyError):
                    name = None
                if name is None:
                    raise DatasetError(
                        "a line is no recorded answer",
                        given=f"{file.name}, byte {place}: {line[:80]!r}",
                        expected='{"id": ..., "text": ...}, or a record of an earlier run',
                        do="correct or remove the line",
                    )
                self._places.setdefault(str(name), []).append((number, place))
                place += len(line)
