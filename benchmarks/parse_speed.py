"""How many answers a second the parser reads on one core: ``python -m benchmarks.parse_speed``.

Three numbers: answers that are all different (nothing remembered), a stream in which models repeat themselves
as they do (one answer in ten is new), and the whole way of ``facemllm parse`` (JSON lines in and out). Beside
them stands the time of a loop of plain Python, which says how busy the machine was.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import facemllm.evaluation
from facemllm.cli.parse import parse as command
from facemllm.evaluation import parsing

RESULT = Path(__file__).parent / "results" / "parse_speed.json"
ANSWERS = Path(facemllm.evaluation.__file__).parent / "data" / "answers.jsonl"
ROUNDS = 5


def main() -> None:
    """Measure, print and keep the result."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=RESULT)
    out = arguments.parse_args().out
    cases = [json.loads(line) for line in ANSWERS.read_text("utf-8").splitlines()]
    result = {
        "answers": len(cases),
        "mean_characters": round(sum(len(case["text"]) for case in cases) / len(cases), 1),
        "distinct_per_second": round(len(cases) / _best(lambda: _read(cases), parsing._parse.cache_clear)),
        "repeating_per_second": round(
            10 * len(cases) / _best(lambda: _read(cases * 10), parsing._parse.cache_clear)
        ),
        "command_per_second": round(
            10 * len(cases) / _best(lambda: _command(cases * 10), parsing._parse.cache_clear)
        ),
        "plain_python_loop_us": round(1e6 * _best(lambda: sum(range(1000)), lambda: None), 1),
    }
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def _read(cases: list[dict[str, Any]]) -> None:
    for case in cases:
        parsing.parse(case["task"], case["text"], case["options"])


def _command(cases: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    stdin, stdout = sys.stdin, sys.stdout
    sys.stdin, sys.stdout = io.TextIOWrapper(io.BytesIO(lines.encode())), io.StringIO()
    try:
        command("-")
    finally:
        sys.stdin, sys.stdout = stdin, stdout


def _best(run: Callable[[], Any], before: Callable[[], None]) -> float:
    """Return the least processor time of some runs, in seconds."""
    times = []
    for _ in range(ROUNDS):
        before()
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
