"""``facemllm parse``: read free-text answers into labels."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from facemllm.core.errors import FaceMLLMError

_EXPECTED = '{"task": "age", "text": "in her thirties"}, with "options": [...] for the task choice'
_CHUNK = 1 << 16  # bytes of lines that are read, and written, at once
_KEPT = 1 << 14  # written lines that are remembered


def parse(
    file: Annotated[str, typer.Argument(help="JSON lines; - for standard input.", metavar="FILE")] = "-",
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help='Write {"outcome": "invalid"} for a faulty line and go on.')
    ] = False,
) -> None:
    """Read answers as JSON lines {"task", "options", "text"} and write {"outcome", "label"} for each."""
    if file != "-" and not Path(file).is_file():
        raise FaceMLLMError(
            "cannot read answers", given=file, expected="a file of JSON lines, or -", do="check the path"
        )
    reader = _reader()
    number = 0
    # Bytes, because lines end at line feeds only and text is UTF-8 whatever the terminal's language.
    with sys.stdin.buffer if file == "-" else Path(file).open("rb") as lines:
        # A terminal or a pipe gives a line as soon as it is there, so nobody waits for a chunk to fill.
        while chunk := [lines.readline()] if file == "-" and _waits(lines) else lines.readlines(_CHUNK):
            if not chunk[0]:
                break
            written = []
            try:
                for line in chunk:
                    number += 1
                    if not line.isspace():
                        written.append(
                            _or_invalid(reader, line, number) if keep_going else reader(line, number)
                        )
            finally:  # what was read before a faulty line is written
                sys.stdout.write("".join(written))


def _or_invalid(reader: Callable[[bytes, int], str], line: bytes, number: int) -> str:
    """Return what is written of a line, which is what is wrong with it where it is no answer."""
    try:
        return reader(line, number)
    except FaceMLLMError as error:
        return (
            json.dumps({"outcome": "invalid", "label": None, "error": error.what}, ensure_ascii=False) + "\n"
        )


def _waits(lines: Any) -> bool:
    """Say whether lines come one by one from a person."""
    return bool(lines.isatty())


def _reader() -> Callable[[bytes, int], str]:
    """Return a function from a line and its number to the line to be written."""
    from facemllm.evaluation.parsing import parse as parse_answer

    loads, encode = json.loads, json.JSONEncoder(ensure_ascii=False).encode
    kept: dict[tuple[str, str | float | None], str] = {}

    def read(line: bytes, number: int) -> str:
        try:
            item = loads(line)
        except ValueError:
            item = None
        if type(item) is not dict:
            raise _not_an_answer(line, number)
        task, text, options = item.get("task"), item.get("text", 0), item.get("options")
        if type(task) is not str or not (text is None or type(text) is str):
            raise _not_an_answer(line, number)
        found = parse_answer(task, text or "", None if options is None else _texts(options, number))
        outcome, label, _ = found
        if type(label) in (dict, list):
            return f'{{"outcome": "answer", "label": {encode(label)}}}\n'
        written = kept.get((outcome, label))
        if written is None:
            if len(kept) >= _KEPT:
                kept.clear()
            written = kept[outcome, label] = encode(found.to_dict()) + "\n"
        return written

    return read


def _texts(options: Any, number: int) -> list[str]:
    """Return options as texts; ages to choose among may be written as numbers."""
    texts = (
        [str(one) if type(one) in (int, float) else one for one in options] if type(options) is list else None
    )
    if texts is None or not all(type(one) is str for one in texts):
        raise FaceMLLMError(
            f"options in line {number} are not texts",
            given=options,
            expected='["happy", "sad"] or null',
            do="correct the line",
        )
    return texts


def _not_an_answer(line: bytes, number: int) -> FaceMLLMError:
    return FaceMLLMError(
        f"line {number} is not an answer",
        given=line[:200].decode(errors="replace").strip(),
        expected=_EXPECTED,
        do="correct the line",
    )
