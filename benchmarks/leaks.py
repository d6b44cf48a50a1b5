"""Recall and false pairs of the leak finder on real pictures with planted copies.

Pictures are drawn from every archive in ``--data``. Of a part of them a copy is planted for each kind of
change, cropped copies at drawn places; the rest have no copy. A pair is false if neither picture is a
planted copy of the other. Counted apart are pairs of originals that the
archives themselves hold twice or nearly so: some are copies, others photos of one sitting.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from facemllm.data.fingerprints import fingerprint, pictures_below
from facemllm.data.leaks import THRESHOLD, find_leaks

Change = Callable[[Image.Image, random.Random], Image.Image]
ARCHIVES = ("fairface", "utkface", "fer2013", "lfw", "celeba", "HeadPoseImageDatabase")


def crop(image: Image.Image, rng: random.Random, share: float = 0.9) -> Image.Image:
    """Cut out a window of ``share`` of both sides, at a drawn place."""
    width, height = (round(side * share) for side in image.size)
    x, y = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((x, y, x + width, y + height))


def one_side(image: Image.Image, rng: random.Random) -> Image.Image:
    """Cut a tenth off one side."""
    width, height = image.size
    x, y = round(width * 0.1), round(height * 0.1)
    boxes = [
        (x, 0, width, height),
        (0, 0, width - x, height),
        (0, y, width, height),
        (0, 0, width, height - y),
    ]
    return image.crop(rng.choice(boxes))


def half(image: Image.Image, rng: random.Random) -> Image.Image:
    """Make half as large."""
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)


def larger(image: Image.Image, rng: random.Random) -> Image.Image:
    """Make 1.7 times as large."""
    return image.resize((int(image.width * 1.7), int(image.height * 1.7)), Image.Resampling.BILINEAR)


def jpeg(image: Image.Image, rng: random.Random, quality: int = 40) -> Image.Image:
    """Compress as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


CHANGES: dict[str, Change] = {
    "cropped to 90 %": crop,
    "a tenth off one side": one_side,
    "half the size": half,
    "1.7 times the size": larger,
    "JPEG quality 40": jpeg,
    "mirrored": lambda image, rng: ImageOps.mirror(image),
    "all of these": lambda image, rng: jpeg(ImageOps.mirror(crop(image, rng)).resize((96, 96)), rng),
}


def drawn(data: Path, count: int, rng: random.Random) -> list[tuple[str, str]]:
    """Return names and paths of about ``count`` pictures, as many from each archive."""
    archives = [data / name for name in ARCHIVES if (data / name).is_dir()]
    originals: list[tuple[str, str]] = []
    for folder in archives:
        found = list(pictures_below(folder))
        share = min(len(found), count // len(archives) + 1)
        originals += [(f"{folder.name}/{name}", path) for name, path in rng.sample(found, share)]
    return originals


def main() -> None:
    """Plant copies, look for them, print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the archives")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--planted", type=int, default=200, help="copies of each kind")
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/leaks.json"))
    options = parser.parse_args()
    rng, started = random.Random(0), time.time()
    originals = drawn(options.data, options.pictures, rng)
    planted: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as place:
        copies = []
        for kind, change in CHANGES.items():
            for name, path in rng.sample(originals, min(options.planted, len(originals))):
                copy = f"{kind}/{len(copies)}"
                target = Path(place) / f"{len(copies)}.png"
                change(Image.open(path).convert("RGB"), rng).save(target)
                planted[copy] = name
                copies.append((copy, str(target)))
        a, b = fingerprint(originals), fingerprint(copies)
        read = time.time()
        report, within = find_leaks(a, b, threshold=0.5), find_leaks(a, threshold=options.threshold)
    searched = time.time()
    known = {frozenset((leak.a, leak.b)) for leak in within.leaks}

    def is_copy(first: str, second: str) -> bool:
        return planted[second] == first or frozenset((planted[second], first)) in known

    kept = [leak for leak in report.leaks if leak.score >= options.threshold]
    hits = {leak.b for leak in kept if planted[leak.b] == leak.a}
    false = [leak for leak in kept if not is_copy(leak.a, leak.b)]
    strictly_false = sum(planted[leak.b] != leak.a for leak in kept)
    true_scores = {leak.b: leak.score for leak in report.leaks if planted[leak.b] == leak.a}
    recall = {}
    for kind in CHANGES:
        planned = [copy for copy in planted if copy.startswith(f"{kind}/")]
        recall[kind] = round(sum(copy in hits for copy in planned) / len(planned), 4)
    curve: dict[str, Any] = {}
    for threshold in (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96):
        wrong = sum(leak.score >= threshold and not is_copy(leak.a, leak.b) for leak in report.leaks)
        right = sum(score >= threshold for score in true_scores.values())
        curve[str(threshold)] = {"recall": round(right / len(planted), 4), "false_pairs": wrong}
    result = {
        "originals": len(a),
        "copies": len(planted),
        "threshold": options.threshold,
        "recall": round(len(hits) / len(planted), 4),
        "recall_by_kind": recall,
        "false_pairs": len(false),
        "compared_pairs": len(a) * len(b),
        "false_per_10000_compared": round(1e4 * len(false) / (len(a) * len(b)), 6),
        "with_pairs_already_in_the_archives": {
            "false_pairs": strictly_false,
            "false_per_10000_compared": round(1e4 * strictly_false / (len(a) * len(b)), 6),
        },
        "curve": curve,
        "pairs_already_in_the_archives": dict(Counter(leak.a.partition("/")[0] for leak in within.leaks)),
        "seconds_reading": round(read - started, 1),
        "seconds_searching": round(searched - read, 1),
    }
    print(json.dumps(result, indent=1))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
