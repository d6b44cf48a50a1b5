"""The command: ``python -m spectacles [--model NAME] [--out DIR] [PHOTO ...]``."""

import argparse
import random
import tempfile
import time
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from facemllm import AutoFaceMLLM
from spectacles import KINDS
from spectacles.pictures import OTHER_SHAPES, make_pictures, portrait, wear
from spectacles.training import HEAD, build, check, train


def main() -> None:
    """Train, check, save, load, predict."""
    parser = argparse.ArgumentParser(prog="spectacles", description=__doc__)
    parser.add_argument("photos", nargs="*", metavar="PHOTO", help="photos to predict on")
    parser.add_argument(
        "--model", default="handmade", help="handmade (default), or a facemllm model such as facemllm-tiny"
    )
    parser.add_argument("--out", default=None, help="folder to keep the trained model in")
    arguments = parser.parse_args()

    disable_progress_bar()
    model = build(arguments.model)
    pictures = make_pictures(20, seed=0)
    began = time.perf_counter()
    losses = train(model, pictures)
    seconds = time.perf_counter() - began
    print(f"{arguments.model}: head trained on {len(pictures)} pictures in {seconds:.1f} s")
    print(f"loss from {losses[0]:.2f} to {losses[-1]:.2f}")
    right, count = check(model, make_pictures(20, seed=1, shapes=OTHER_SHAPES))
    chance = count // len(KINDS)
    print(f"pictures kept away, with frames of other shapes: {right} of {count} right (chance: {chance})")
    print("all are of one portrait: the parts work together; nothing is said about other people")

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments.out or scratch)
        model.save_pretrained(folder)
        again = AutoFaceMLLM.from_pretrained(folder)  # finds "handmade" by its name in the configuration
    photo, face = portrait()
    for kind in KINDS:
        worn = wear(photo, face, kind, random.Random(7), OTHER_SHAPES)
        print(f"portrait with spectacles {kind + ':':6} {again.predict(worn, head=HEAD)}")
    for path in arguments.photos:
        print(f"{path}: {again.predict(path, head=HEAD)}")


if __name__ == "__main__":
    main()
