"""What asking costs: many questions or pictures in one call, and where the time of a call goes.

    python -m benchmarks.ask_speed --out benchmarks/results/ask_speed.json

Ratios are of times taken in turns on the same machine, so that load from elsewhere falls on both. Nothing
here is a test, and no time is asserted.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import in_turns
from facemllm import AutoFaceMLLM
from facemllm.core.errors import FaceMLLMError
from facemllm.data import canonical_question
from facemllm.faces import detect_faces
from facemllm.processing.image import load_image

ATTRIBUTES = ("smiling", "eyeglasses", "wearing_hat", "bangs", "mustache", "goatee", "heavy_makeup", "young")


def questions(count: int) -> list[str]:
    """Return so many questions, of all tasks.

    Example:
        >>> questions(2)
        ['What is the expression of this person?', 'How old is this person?']
    """
    named = [canonical_question(task) for task in ("expression", "age", "gender", "ethnicity", "pose")]
    named += [canonical_question("attributes", attribute) for attribute in ATTRIBUTES]
    return [named[index % len(named)] for index in range(count)]


def shares(model: Any, photo: str, question: str, rounds: int) -> dict[str, Any]:
    """Return where the time of one question about one photo goes, as shares of the whole call."""
    processor = model.checked_processor()
    spent: dict[str, list[float]] = {}

    def timed(name: str, step: Callable[..., Any], *args: Any) -> Any:
        began = time.perf_counter()
        result = step(*args)
        spent.setdefault(name, []).append(time.perf_counter() - began)
        return result

    @torch.inference_mode()
    def encode(crop: Any) -> Any:
        return model.encoder(processor.pixels([crop]).to(model.device, model.encoder_dtype))

    def ask(photo: str) -> Any:
        return model.ask(photo, question, crop="face")

    for _ in range(rounds + 1):
        picture = timed("load", load_image, photo)
        face = timed("detect", detect_faces, picture)[0]
        crop = timed("crop", processor.crop, picture, face.box, face.landmarks).image
        timed("encode", encode, crop)
        timed("whole", ask, photo)
    middle = {name: statistics.median(times[1:]) for name, times in spent.items()}  # the first warms up
    whole = middle.pop("whole")
    middle["answer"] = max(whole - sum(middle.values()), 0.0)
    return {
        "seconds": round(whole, 4),
        "shares": {name: round(value / whole, 3) for name, value in middle.items()},
    }


def measure(model: Any, photo: str, *, count: int, pictures: int, rounds: int) -> dict[str, Any]:
    """Measure both comparisons on photos (faces are looked for) and on crops, and the shares of a call."""
    asked = questions(count)
    many = [photo] * pictures
    face = detect_faces(load_image(photo))[0]
    cut = model.checked_processor().crop(load_image(photo), face.box, face.landmarks).image
    crops = [cut] * pictures
    result: dict[str, Any] = {"questions": count, "pictures": pictures, "rounds": rounds}
    for where, mode, one, several in (("photo", "face", photo, many), ("crop", "none", cut, crops)):
        result[f"questions_{where}"] = in_turns(
            {
                "one_call": lambda one=one, mode=mode: model.ask(one, asked, crop=mode),
                "one_by_one": lambda one=one, mode=mode: [model.ask(one, text, crop=mode) for text in asked],
            },
            rounds,
        )
        result[f"pictures_{where}"] = in_turns(
            {
                "one_call": lambda all_=several, mode=mode: model.ask(all_, asked[0], crop=mode),
                "one_by_one": lambda all_=several, mode=mode: [
                    model.ask(x, asked[0], crop=mode) for x in all_
                ],
            },
            rounds,
        )
    return result | {"one_question": shares(model, photo, asked[0], rounds)}


def render(result: dict[str, Any]) -> str:
    """Return the result as lines for a person."""
    lines = [f"{result['model']} on {result['device']}, {result['threads']} threads"]
    for key, count in (("questions", result["questions"]), ("pictures", result["pictures"])):
        for where in ("photo", "crop"):
            one = result[f"{key}_{where}"]
            low, high = one["ratio_range"]
            lines.append(
                f"  {count} {key} in one call, {where}: {one['ratio']:.2f} of the time of {count} calls "
                f"({low:.2f} to {high:.2f}), {one['seconds']['one_call']:.2f} s; "
                f"peak {one['peak_mib']['one_call']} MiB against {one['peak_mib']['one_by_one']}"
            )
    parts = ", ".join(
        f"{name} {100 * share:.0f} %" for name, share in result["one_question"]["shares"].items()
    )
    lines.append(f"  one question about a photo: {result['one_question']['seconds']:.2f} s: {parts}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ask_speed", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", default="facemllm-tiny", help="name or folder")
    parser.add_argument("--photo", default=str(files("facemllm") / "assets" / "portrait.jpg"))
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    try:
        model = AutoFaceMLLM.from_pretrained(args.model)
        model.trunk_cache.max_bytes = 0  # every call reads its picture, as the first one about a picture does
        found = measure(model, args.photo, count=args.questions, pictures=args.pictures, rounds=args.rounds)
    except FaceMLLMError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    result = {
        "model": Path(args.model).name,
        "device": f"{model.device.type} ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **found,
    }
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2) if args.json else render(result))


if __name__ == "__main__":
    main()
