"""What embeddings find of copies that pixels do not, and how many pairs of different pictures they report.

    python -m benchmarks.leaks_embedding --data data --encoder dlib-face

Copies are the ones of ``benchmarks.leaks``, and edited ones: turned, cut to less than half, painted over,
framed, blurred, or with other colours. Each is looked for by its pixels alone and then by embeddings too.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from benchmarks.leaks import CHANGES, Change, crop, drawn
from facemllm.cli.leaks import embedder
from facemllm.data.fingerprints import fingerprint
from facemllm.data.leaks import find_leaks

STEPS = (0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.95, 0.97)


def turned(image: Image.Image, rng: random.Random) -> Image.Image:
    """Turn by twelve degrees."""
    return image.rotate(rng.choice((-12, 12)), Image.Resampling.BICUBIC)


def recoloured(image: Image.Image, rng: random.Random) -> Image.Image:
    """Take most of the colour and of the grey levels away."""
    pale = ImageEnhance.Color(ImageEnhance.Contrast(image).enhance(1.8)).enhance(0.2)
    return ImageOps.posterize(pale, 3)


def painted_over(image: Image.Image, rng: random.Random) -> Image.Image:
    """Cover the lower 30 %, as a caption does."""
    image = image.copy()
    place = (0, int(image.height * 0.7), image.width, image.height)
    ImageDraw.Draw(image).rectangle(place, fill=(20, 20, 20))
    return image


EDITS: dict[str, Change] = {
    "cropped to 70 %": lambda image, rng: crop(image, rng, 0.7),
    "turned by 12 degrees": turned,
    "other colours": recoloured,
    "lower 30 % painted over": painted_over,
    "white frame": lambda image, rng: ImageOps.expand(image, border=image.width // 4, fill=(255, 255, 255)),
    "blurred": lambda image, rng: image.filter(ImageFilter.GaussianBlur(image.width / 40)),
}


def main() -> None:
    """Plant copies, look for them with and without embeddings, print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the archives")
    parser.add_argument("--encoder", action="append", help="repeats; dlib-face and facemllm-tiny by default")
    parser.add_argument("--pictures", type=int, default=1200)
    parser.add_argument("--planted", type=int, default=80, help="copies of each kind")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/leaks_embedding.json"))
    options = parser.parse_args()
    rng = random.Random(0)
    originals = drawn(options.data, options.pictures, rng)
    planted: dict[str, tuple[str, str]] = {}
    result: dict[str, Any] = {"originals": len(originals), "planted_of_each_kind": options.planted}
    with tempfile.TemporaryDirectory() as place:
        copies = []
        for kind, change in {**CHANGES, **EDITS}.items():
            for name, path in rng.sample(originals, min(options.planted, len(originals))):
                target = Path(place) / f"{len(copies)}.png"
                change(Image.open(path).convert("RGB"), rng).save(target)
                planted[target.name] = (kind, name)
                copies.append((target.name, str(target)))
        for encoder in options.encoder or ["dlib-face", "facemllm-tiny"]:
            began = time.process_time()
            embed = embedder(encoder)
            a, b = fingerprint(originals, embed=embed), fingerprint(copies, embed=embed)
            result[encoder] = judged(a, b, planted)
            result[encoder]["cpu_seconds"] = round(time.process_time() - began, 1)
            print(encoder, json.dumps(result[encoder], indent=1), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


def judged(a: Any, b: Any, planted: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Return recall by kind, by pixels and with embeddings, and false pairs of embeddings by threshold."""
    report = find_leaks(a, b, embedding_threshold=min(STEPS))
    # Originals that are copies of each other already, and copies made from either, are not false.
    twins = {frozenset((leak.a, leak.b)) for leak in find_leaks(_without_vectors(a)).leaks}
    by_pixels = {leak.b for leak in report.leaks if leak.kind != "embedding" and planted[leak.b][1] == leak.a}
    embedded = [leak for leak in report.leaks if leak.kind == "embedding"]

    def found(threshold: float) -> set[str]:
        hits = {leak.b for leak in embedded if leak.score >= threshold and planted[leak.b][1] == leak.a}
        return hits | by_pixels

    def wrong(threshold: float) -> int:
        return sum(
            leak.score >= threshold
            and planted[leak.b][1] != leak.a
            and frozenset((planted[leak.b][1], leak.a)) not in twins
            for leak in embedded
        )

    kinds: dict[str, list[str]] = {}
    for copy, (kind, _) in planted.items():
        kinds.setdefault(kind, []).append(copy)

    def recall(hits: set[str]) -> dict[str, float]:
        return {kind: round(float(np.mean([c in hits for c in made])), 4) for kind, made in kinds.items()}

    compared = len(a) * len(b)
    steps = {}
    for step in STEPS:
        hits = found(step)
        steps[str(step)] = {
            "recall": recall(hits),
            "edited_copies_found": sum(planted[copy][0] in EDITS for copy in hits),
            "false_pairs": wrong(step),
            "false_per_10000_compared": round(1e4 * wrong(step) / compared, 4),
        }
    return {
        "compared_pairs": compared,
        "recall_by_pixels": recall(by_pixels),
        "edited_copies": sum(kind in EDITS for kind, _ in planted.values()),
        "edited_copies_found_by_pixels": sum(planted[copy][0] in EDITS for copy in by_pixels),
        "with_embeddings_from": steps,
    }


def _without_vectors(prints: Any) -> Any:
    from dataclasses import replace

    return replace(prints, vectors=None)


if __name__ == "__main__":
    main()
