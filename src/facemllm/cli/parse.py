"""``facemllm parse``: read free-text answers into labels."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from facemllm.core.errors import FaceMLLMError

_EXPECTED = '{"task": "age", "text": "in her thirties"}, with "options": [...] for the task choice'


def parse(
    file: Annotated[str, typer.Argument(help="JSON lines; - for standard input.", metavar="FILE")] = "-",
) -> None:
    """Read answers as JSON lines {"task", "options", "text"} and write {"outcome", "label"} for each."""
    if file != "-" and not Path(file).is_file():
        raise FaceMLLMError(
            "cannot read answers", given=file, expected="a file of JSON lines, or -", do="check the path"
        )
    # Bytes, because lines end at line feeds only and text is UTF-8 whatever the terminal's language.
    with sys.stdin.buffer if file == "-" else Path(file).open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                sys.stdout.write(json.dumps(_read(line, number), ensure_ascii=False) + "\n")


def _read(line: bytes, number: int) -> dict[str, Any]:
    from facemllm.evaluation.parsing import parse as parse_answer

    try:
        item = json.loads(line)
    except ValueError:
        item = None
    if not isinstance(item, dict) or not isinstance(item.get("task"), str) or not _has_text(item):
        raise FaceMLLMError(
            f"line {number} is not an answer",
            given=line[:200].decode(errors="replace").strip(),
            expected=_EXPECTED,
            do="correct the line",
        )
    options = item.get("options")
    if isinstance(options, list):  # ages to choose among may be written as numbers
        options = [str(o) if isinstance(o, (int, float)) and not isinstance(o, bool) else o for o in options]
    if options is not None and not (
        isinstance(options, list) and all(isinstance(option, str) for option in options)
    ):
        raise FaceMLLMError(
            f"options in line {number} are not texts",
            given=options,
            expected='["happy", "sad"] or null',
            do="correct the line",
        )
    return parse_answer(item["task"], item["text"] or "", options).to_dict()


def _has_text(item: dict[str, Any]) -> bool:
    return "text" in item and (item["text"] is None or isinstance(item["text"], str))
