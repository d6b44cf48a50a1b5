"""What keeping a frozen encoder's features saves: an epoch of stage one with and without them.

    python -m benchmarks.feature_cache --json

The stage trains the connector between a frozen ViT-B/16 and a frozen small language model, on crops of one
portrait. Weights are random: time does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance

from benchmarks.timing import in_turns
from facemllm import FaceMLLM
from facemllm.data import FaceSample
from facemllm.language import tiny_language_model
from facemllm.training import Stage
from facemllm.training.crops import MARGIN, CropSet
from facemllm.training.features import FeatureSet, PixelSet, encode_views
from facemllm.training.losses import answer_loss
from facemllm.training.questions import StageData


def crops(count: int, size: int) -> CropSet:
    """Return crops of one portrait, each a little brighter than the one before."""
    photo = Image.open(str(files("facemllm") / "assets" / "portrait.jpg")).convert("RGB")
    photo = photo.resize((size + 2 * MARGIN,) * 2)
    brighter = [ImageEnhance.Brightness(photo).enhance(0.7 + i / count) for i in range(count)]
    pixels = np.stack([np.asarray(one) for one in brighter])
    samples = tuple(
        FaceSample(id=str(i), image="portrait.jpg", labels={"age": 30.0 + i % 9}, dataset="x", licence="x")
        for i in range(count)
    )
    return CropSet("portrait", samples, pixels)


def measure(encoder: str, count: int, rounds: int) -> dict[str, Any]:
    """Return times of an epoch with kept features and without, and of the first one, which makes them."""
    llm = tiny_language_model(["How old is this person?\n34"], hidden_size=192, layers=4, heads=4)
    model = FaceMLLM.from_parts(encoder=encoder, language_model=llm)
    model.requires_grad_(False)
    model.connector.requires_grad_(True)
    processor = model.checked_processor()
    stage = Stage(
        name="alignment",
        train=("connector",),
        lr={"connector": 1e-3},
        ask="captions",
        steps=1,
        batch_size=16,
        tasks=("age",),
        data=[{"dataset": "x"}],
    )
    look: dict[str, Any] = {
        "size": processor.image_size,
        "mean": processor.image_mean,
        "std": processor.image_std,
    }
    set_ = crops(count, processor.image_size)
    optimizer = torch.optim.AdamW(model.connector.parameters(), lr=1e-3)

    def epoch(source: FeatureSet | PixelSet) -> None:
        data = StageData([source], [1.0], stage, processor, 0)
        for step in range(count // stage.batch_size):
            batch = data.batch(step)
            loss = answer_loss(batch.logits(model), batch.targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        kept = encode_views(
            model.encoder, set_, views=2, cache=Path(folder), progress=False, batch_size=16, **look
        )
        epoch(kept)
        first = time.perf_counter() - began
        timed = in_turns(
            {"without": lambda: epoch(PixelSet(set_, **look)), "kept": lambda: epoch(kept)}, rounds
        )
    return {"encoder": encoder, "pictures": count, "first_epoch": round(first, 3), **timed}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.feature_cache", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--encoder", default="timm/vit_base_patch16_224")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    result = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    result |= measure(args.encoder, args.pictures, args.rounds)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    kept, without = result["seconds"]["kept"], result["seconds"]["without"]
    text = (
        f"{result['encoder']}, {args.pictures} pictures: an epoch takes {kept:.2f} s with features kept, "
        f"{without:.2f} s without ({result['ratio']:.1f} times); the first, which makes them for two views, "
        f"{result['first_epoch']:.2f} s"
    )
    sys.stdout.write((json.dumps(result, indent=2) if args.json else text) + "\n")


if __name__ == "__main__":
    main()
