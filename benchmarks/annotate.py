"""What the annotation engine costs on top of reading, cropping and asking: time an image, and memory.

    python -m benchmarks.annotate --images 100000 --out benchmarks/results/annotate.json

Pictures have no pixels and the annotator answers at once, so all that is measured is queues, ledger, checks
of answers, records and shards. Nothing here is a test, and no time is asserted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from facemllm.annotation import (
    AnnotateConfig,
    AnnotatorConfig,
    Item,
    Prepared,
    Question,
    Reply,
    RunConfig,
    annotate,
)

CAPTION = "The person has short brown hair and looks at the camera. The light is even."


class Blank:
    """A source of pictures without pixels, which notes time and memory as it goes."""

    def __init__(self, count: int, marks: int = 10) -> None:
        self.total, self.step = count, max(1, count // marks)
        self.seen: list[tuple[int, float, float, float]] = []

    def __iter__(self) -> Iterator[Item]:
        """Yield items with an id alone."""
        for index in range(self.total):
            if index % self.step == 0:
                self.mark(index)
            yield Item(f"{index // 10_000:05d}/{index:09d}", data=b"")
        self.mark(self.total)

    def mark(self, index: int) -> None:
        """Note wall time, processor time and resident memory (MiB)."""
        self.seen.append((index, time.perf_counter(), time.process_time(), resident()))

    def parts(self) -> list[Blank]:
        """There is one part."""
        return [self]

    def count(self) -> int:
        """Return the number of pictures."""
        return self.total


class AtOnce:
    """An annotator that answers at once, with one of a few answers."""

    name, model, endpoint = "at-once", "none", None

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}
        self.replies: list[Reply] = []

    async def __call__(self, question: Question, *, key: str) -> Reply:
        """Answer."""
        if not self.replies:
            rng = random.Random(0)
            for _ in range(16):
                said = {name: rng.choice(("yes", "no", "not visible")) for name in question.prompt.attributes}
                text = json.dumps({"caption": CAPTION, "attributes": said})
                self.replies.append(Reply(text, tokens_in=900, tokens_out=450))
        return self.replies[int(key[0], 16)]

    async def close(self) -> None:
        """Nothing is open."""


def prepare(item: Item) -> Prepared:
    """Return a crop without pixels."""
    return Prepared(b"", hashlib.sha256(item.id.encode()).hexdigest(), (512, 512))


def resident() -> float:
    """Return the resident memory of this process in MiB; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(images: int, concurrency: int) -> dict[str, Any]:
    """Run so many pictures through the engine, and return what each cost."""
    source = Blank(images)
    config = AnnotateConfig(
        images="-", annotator=AnnotatorConfig(name="at-once", price_in=1.0, price_out=2.0)
    )
    with tempfile.TemporaryDirectory() as folder:
        began, work = time.perf_counter(), time.process_time()
        summary = annotate(
            config,
            folder,
            RunConfig(concurrency=concurrency),
            annotators=[AtOnce()],
            source=source,
            prepare=prepare,
        )
        seconds, processor = time.perf_counter() - began, time.process_time() - work
        disk = sum(path.stat().st_size for path in Path(folder).iterdir())
        ledger = (Path(folder) / "ledger.sqlite").stat().st_size
    assert summary.totals.records == images, summary
    memory = [mark[3] for mark in source.seen]
    middle = len(source.seen) // 2
    (first, _, at_first, _), (half, _, at_half, _), (_, _, at_last, _) = (
        source.seen[1], source.seen[middle], source.seen[-1],
    )  # fmt: skip
    return {
        "images": images,
        "concurrency": concurrency,
        "wall_ms_an_image": round(1000 * seconds / images, 4),
        "cpu_ms_an_image": round(1000 * processor / images, 4),
        "cpu_ms_an_image_first_half": round(1000 * (at_half - at_first) / (half - first), 4),
        "cpu_ms_an_image_second_half": round(1000 * (at_last - at_half) / (images - half), 4),
        "memory_mib": [round(value, 1) for value in memory],
        "memory_growth_after_first_tenth_mib": round(memory[-1] - memory[1], 1),
        "bytes_an_image_on_disk": round(disk / images),
        "bytes_an_image_in_ledger": round(ledger / images),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.annotate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--out", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_before": None if load is None else round(load, 2),
        **measure(args.images, args.concurrency),
    }
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
