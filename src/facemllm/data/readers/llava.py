r"""Conversations about pictures in the JSON of LLaVA, which many instruction sets share.

A list of ``{"id", "image", "conversations": [{"from": "human", "value": "<image>\n..."}, {"from": "gpt",
...}]}``, or the same one object a line (``.jsonl``). Lists are read piece by piece, so they may be larger
than memory.
Source: Liu et al., "Visual Instruction Tuning", NeurIPS 2023.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facemllm.data.readers.base import READERS, Reader, Unusable
from facemllm.data.readers.tables import text_lines
from facemllm.data.schema import FaceSample

_IMAGE = "<image>"
_CHUNK = 1 << 20


@READERS.register("llava-json")
class LLaVAJSON(Reader):
    """Conversations about one picture each; a file whose name holds ``val`` or ``test`` is that split.

    Args:
        root: As for every reader.
        strict: As for every reader.
        seed: Unused.
        licence: The terms of the file, which the format has no place for.
        images: Folder that the pictures' names are relative to; by default the root or its ``images/``.
    """

    name = "llava-json"
    licence = "not stated in the file"
    layout = (
        'a .json list or .jsonl lines of {"id", "image", "conversations": [{"from", "value"}, ...]}, and the '
        "images"
    )
    splits = ("train", "val", "test")
    folders = ()

    def __init__(
        self,
        root: str | Path,
        *,
        strict: bool = False,
        seed: int = 0,
        licence: str | None = None,
        images: str | Path | None = None,
    ) -> None:
        super().__init__(root, strict=strict, seed=seed)
        self.licence = licence or self.licence
        self.images = [Path(images)] if images else [self.root, self.root / "images"]

    def recognises(self, folder: Path) -> bool:
        """Say whether a file of conversations is here."""
        return any(_has_conversations(path) for path in _files(folder))

    def read(self) -> Iterator[FaceSample]:
        """Yield the conversations of every file."""
        for path in filter(_has_conversations, _files(self.root)):
            split = next((name for name in ("val", "test") if name in path.stem.lower()), "train")
            for number, item in enumerate(self._items(path)):
                where = f"{path.name}, item {number}"
                text = json.dumps(item, ensure_ascii=False)[:100]
                yield from self.attempt(where, text, self._read_item, item, split, f"{path.stem}/{number}")

    def _items(self, path: Path) -> Iterator[Any]:
        if path.suffix == ".jsonl":
            for number, line in text_lines(path):
                try:
                    yield json.loads(line)
                except ValueError:
                    self.skip(f"{path.name}, line {number}", line[:100], "line is not JSON")
            return
        try:
            yield from json_list(path)
        except ValueError as error:
            self.skip(path.name, str(error)[:100], "JSON breaks off or is malformed; what follows is lost")

    def _read_item(self, item: Any, split: str, place: str) -> FaceSample:
        if not isinstance(item, dict) or not isinstance(item.get("conversations"), list):
            raise Unusable("no conversations")
        image = item.get("image")
        if isinstance(image, list):
            image = image[0] if len(image) == 1 else None
        if not isinstance(image, str) or not image:
            raise Unusable("not about exactly one picture")
        if (
            sum(
                str(turn.get("value")).count(_IMAGE)
                for turn in item["conversations"]
                if isinstance(turn, dict)
            )
            != 1
        ):
            raise Unusable("number of <image> is not the number of pictures")
        path = next((base / image for base in self.images if (base / image).is_file()), None)
        if path is None:
            raise Unusable("image not found")
        provenance = {key: str(item[key]) for key in ("id", "source") if item.get(key) is not None}
        labels = {"conversation": _turns(item["conversations"])}
        return self.record(place, str(path), labels=labels, split=split, provenance=provenance)


def json_list(path: Path) -> Iterator[Any]:
    """Yield the items of a JSON list, reading the file piece by piece.

    Raises:
        ValueError: Where the file is no list, or is cut off.
    """
    decoder, text, begun, done = json.JSONDecoder(), "", False, False
    with path.open(encoding="utf-8-sig") as file:
        while not done:
            piece = file.read(_CHUNK)
            text = (text + piece).lstrip()
            if not text and piece:
                continue
            if not begun:
                if not text.startswith("["):
                    raise ValueError("does not begin with [")
                text, begun = text[1:].lstrip(), True
            while text:
                if text[0] == "]":
                    done = True
                    break
                try:
                    item, end = decoder.raw_decode(text)
                except ValueError:
                    if not piece:
                        raise
                    break  # the item may go on in the next piece
                rest = text[end:].lstrip()
                if not rest and piece:
                    break  # a number could go on
                if rest[:1] not in (",", "]"):
                    raise ValueError(f"expected , or ] after an item, found {rest[:20]!r}")
                yield item
                text = rest[1:].lstrip() if rest[0] == "," else rest
            if not piece and not done:
                raise ValueError("the list is cut off")


def _turns(conversation: list[Any]) -> list[tuple[str, str]]:
    said = [(turn.get("from"), turn.get("value")) for turn in conversation if isinstance(turn, dict)]
    if said and said[0][0] == "system":
        said = said[1:]
    if len(said) < 2 or len(said) % 2:
        raise Unusable("turns are not pairs of human and gpt")
    pairs = []
    for (asker, question), (teller, answer) in zip(said[::2], said[1::2], strict=True):
        if asker not in ("human", "user") or teller not in ("gpt", "assistant"):
            raise Unusable("turns are not pairs of human and gpt")
        pairs.append((str(question).replace(_IMAGE, "").strip(), str(answer)))
    return pairs


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".json", ".jsonl") and path.is_file())


def _has_conversations(path: Path) -> bool:
    with path.open("rb") as file:
        return b'"conversations"' in file.read(_CHUNK)
