"""Photos a second through load, detect, align and crop; and in which groups faces are missed.

    python -m benchmarks.detect --out benchmarks/results/detect.json
    python -m benchmarks.detect --groups --data data --out benchmarks/results/detect_groups.json

Photos are JPEG files of 512x512 pixels: faces of the given data (or the portrait of the package) at several
sizes on plain canvases, one to three a photo. Threads share one detector. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from facemllm.core.errors import FaceMLLMError
from facemllm.data import read_dataset
from facemllm.faces import FaceDetector, create_detector, detect_faces
from facemllm.processing.image import crop_face, load_image

SIDE = 512


def make_photos(folder: Path, count: int, data: Path | None, seed: int = 0) -> list[Path]:
    """Write photos of 512x512 pixels with known faces on them."""
    rng = random.Random(seed)
    portrait = Image.open(str(files("facemllm") / "assets" / "portrait.jpg")).convert("RGB")
    faces = sorted((data / "fairface" / "val").glob("*.jpg"))[:: max(1, 1400 // 100)] if data else []
    photos = []
    for index in range(count):
        photo = Image.new("RGB", (SIDE, SIDE), tuple(rng.randrange(60, 200) for _ in range(3)))
        if faces:
            for place in range(rng.randint(1, 3)):
                side = rng.randrange(120, 250)
                face = (
                    Image.open(rng.choice(faces))
                    .convert("RGB")
                    .resize((side, side), Image.Resampling.LANCZOS)
                )
                photo.paste(
                    face, ((place % 2) * 256 + rng.randrange(6), (place // 2) * 256 + rng.randrange(6))
                )
        else:
            side = rng.randrange(300, SIDE + 1)
            face = portrait.resize((side, side), Image.Resampling.LANCZOS)
            photo.paste(face, (rng.randrange(SIDE - side + 1), rng.randrange(SIDE - side + 1)))
        path = folder / f"{index:05d}.jpg"
        photo.save(path, quality=92)
        photos.append(path)
    return photos


def cut(path: Path, detector: FaceDetector) -> tuple[int, list[float]]:
    """Load, detect, align and cut out the first face; return the number of faces and the seconds of each."""
    marks = [time.perf_counter()]
    photo = load_image(path)
    marks.append(time.perf_counter())
    faces = detect_faces(photo, detector)
    marks.append(time.perf_counter())
    if faces:
        crop_face(photo, faces[0].box, faces[0].landmarks, size=224, align=True)
    marks.append(time.perf_counter())
    return len(faces), [after - before for before, after in pairwise(marks)]


def speed(photos: Sequence[Path], threads: int, fast: bool, rounds: int) -> dict[str, Any]:
    """Return photos a second, by wall clock and by processor time, and where the time goes."""
    detector = create_detector("centerface", threads=1, fast=fast)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda path: cut(path, detector), photos[:4]))
        wall, work = [], []
        steps: list[list[float]] = []
        found = 0
        for _ in range(rounds):
            began, used = time.perf_counter(), time.process_time()
            done = list(pool.map(lambda path: cut(path, detector), photos))
            wall.append(time.perf_counter() - began)
            work.append(time.process_time() - used)
            steps += [seconds for _, seconds in done]
            found = sum(count for count, _ in done)
    cpu = min(work) / len(photos)
    return {
        "threads": threads,
        "fast": fast,
        "photos_a_second": round(len(photos) / statistics.median(wall), 1),
        "photos_a_second_best_round": round(len(photos) / min(wall), 1),
        "cpu_ms_a_photo": round(1000 * cpu, 1),
        "photos_a_second_of_two_free_cores": round(2 / cpu, 1),
        "step_ms": dict(
            zip(
                ("load", "detect", "align_crop"),
                (round(1000 * statistics.median(step), 1) for step in zip(*steps, strict=True)),
                strict=True,
            )
        ),
        "faces_found": found,
    }


def wilson(hits: int, total: int, z: float = 1.96) -> list[float]:
    """Return the 95 % interval of a share.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.

    Example:
        >>> wilson(10, 10)
        [0.7225, 1.0]
    """
    share = hits / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * (share * (1 - share) / total + z * z / (4 * total**2)) ** 0.5
    return [round(middle - half, 4), round(min(middle + half, 1.0), 4)]


def groups(
    data: Path, threads: int, limit: int | None, fast: bool, side: int | None = None
) -> dict[str, Any]:
    """Return the share of FairFace's faces that are found, by perceived group, with intervals.

    FairFace's pictures were cut around faces that some detector had found, so nearly all are found again.
    With ``side``, each is shrunk to so many pixels and laid on a grey canvas, which is hard enough to tell
    groups apart.
    """
    samples = list(read_dataset("fairface", data / "fairface", "val"))[:limit]
    detector = create_detector("centerface", threads=1, fast=fast)

    def found(sample: Any) -> bool:
        picture = load_image(sample.image)
        if side is None:
            return bool(detect_faces(picture, detector))
        canvas, corner = Image.new("RGB", (320, 320), (127, 127, 127)), (320 - side) // 2
        canvas.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (corner, corner))
        middles = [
            ((x1 + x2) / 2, (y1 + y2) / 2)
            for x1, y1, x2, y2 in (f.box for f in detect_faces(canvas, detector))
        ]
        return any(corner <= x <= corner + side and corner <= y <= corner + side for x, y in middles)

    with ThreadPoolExecutor(threads) as pool:
        hits = list(pool.map(found, samples))
    counts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for sample, hit in zip(samples, hits, strict=True):
        labels = sample.labels
        cells = {
            "all": "all", "gender": labels["gender"], "ethnicity": labels["ethnicity"], "age":
            labels["age_bin"], "gender and ethnicity": f"{labels['gender']}, {labels['ethnicity']}",
        }  # fmt: skip
        for by, name in cells.items():
            counts[by][name][0] += hit
            counts[by][name][1] += 1
    return {
        "dataset": "FairFace val of the given archive; labels are perceived",
        "picture_side": side or 128,
        "found": {
            by: {
                name: {"n": n, "found": round(hit / n, 4), "interval": wilson(hit, n)}
                for name, (hit, n) in sorted(cells.items())
            }
            for by, cells in counts.items()
        },
        "missed": [sample.id for sample, hit in zip(samples, hits, strict=True) if not hit],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detect", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with fairface/; default: FACEMLLM_DATA")
    parser.add_argument("--groups", action="store_true", help="faces found by perceived group of FairFace")
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, help="with --groups: shrink pictures to so many pixels")
    parser.add_argument("--limit", type=int, help="of FairFace's pictures")
    parser.add_argument(
        "--exact", action="store_true", help="with --groups: the detector as training used it"
    )
    parser.add_argument("--out", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    data = args.data or (Path(os.environ["FACEMLLM_DATA"]) if "FACEMLLM_DATA" in os.environ else None)
    result: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    result["load_before"] = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    try:
        if args.groups:
            if data is None:
                raise FaceMLLMError(
                    "cannot measure groups", given="no --data", expected="a folder with fairface/",
                    do="pass --data, or set FACEMLLM_DATA",
                )  # fmt: skip
            result |= groups(data, args.threads, args.limit, not args.exact, args.side)
        else:
            with tempfile.TemporaryDirectory() as folder:
                photos = make_photos(Path(folder), args.photos, data)
                result["photos"] = f"{len(photos)} of {SIDE}x{SIDE}, JPEG"
                result["ways"] = [
                    speed(photos, threads, fast, args.rounds)
                    for threads, fast in ((1, False), (args.threads, False), (args.threads, True))
                ]
    except FaceMLLMError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
