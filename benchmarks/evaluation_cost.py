"""What an evaluation costs: 40 attributes of every face, against transformers' ``generate``, and its memory.

    python -m benchmarks.evaluation_cost --out benchmarks/results/evaluation_cost.json

The peer asks the same weights the same questions by ``GenerationMixin.generate``, one by one, as scripts do;
the face is searched once for it too. It is timed twice: with the picture passed to every call, and at its
best, with the picture encoded once by hand. It is asked about fewer faces (``--peer-faces``), and the costs
of a face are compared, and the answers. Where other work runs beside, processor time says more than the
clock. Memory is the peak of a process of its own, for two numbers of faces. The faces are variations of one
portrait, and their labels are made up: only cost is measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import peak_mib
from facemllm import AutoFaceMLLM, evaluate
from facemllm.data import FaceSample, canonical_question
from facemllm.data.vocabularies import CELEBA_ATTRIBUTES
from facemllm.model.vision import views

QUESTIONS = tuple(canonical_question("attributes", name) for name in sorted(CELEBA_ATTRIBUTES.labels))
LONGEST = 32  # tokens of an answer, for both


def make_faces(folder: Path, count: int) -> list[FaceSample]:
    """Write variations of a portrait in the public domain, labelled at will with 40 attributes."""
    from PIL import Image, ImageEnhance

    photo = Image.open(str(files("facemllm") / "assets" / "portrait.jpg")).convert("RGB")
    photo.thumbnail((256, 256))
    samples = []
    for index in range(count):
        path = folder / f"{index}.jpg"
        shade = ImageEnhance.Brightness(photo).enhance(0.7 + 0.6 * (index % 97) / 97)
        shade.rotate(index % 13 - 6, resample=Image.Resampling.BICUBIC).save(path, quality=90)
        labels = {name: (index + place) % 3 == 0 for place, name in enumerate(CELEBA_ATTRIBUTES.labels)}
        samples.append(
            FaceSample(
                id=path.name,
                image=str(path),
                labels={"attributes": labels},
                dataset="made",
                licence="CC0-1.0",
            )
        )
    return samples


class Clocks:
    """Seconds by the clock, and of the processor, since it was made."""

    def __init__(self) -> None:
        self.began = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Return both."""
        return time.perf_counter() - self.began[0], time.process_time() - self.began[1]


def ours(
    model: Any, samples: Sequence[FaceSample], crop: str
) -> tuple[tuple[float, float], dict[str, list[str]]]:
    """Return the seconds of a whole evaluation, report included, and the answers by face."""
    clocks = Clocks()
    report = evaluate(model, samples, progress=False, crop=crop)
    seconds = clocks.read()
    said: dict[str, list[str]] = {}
    for record in report.records:
        said.setdefault(record.sample, []).append(record.text)
    return seconds, said


@torch.inference_mode()
def peer(
    model: Any, samples: Sequence[FaceSample], crop: str, *, encode_once: bool
) -> tuple[tuple[float, float], dict[str, list[str]]]:
    """Return the seconds of asking question by question through ``generate``, and the answers by face."""
    processor = model.checked_processor()
    stops = processor.stop_ids()
    prompts = [torch.tensor([processor.encode_prompt(text).input_ids]) for text in QUESTIONS]
    said: dict[str, list[str]] = {}
    clocks = Clocks()
    for sample in samples:
        view = views(sample.image, processor, crop=crop, on_no_face="whole")[0]
        if encode_once:
            picture = {"encoder_features": model.encode([view.crop])}
        else:
            picture = {"pixel_values": processor.pixels([view.crop])}
        for ids in prompts:
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                **picture,
                max_new_tokens=LONGEST,
                do_sample=False,
                eos_token_id=stops,
                pad_token_id=stops[0],
            )
            text = processor.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
            said.setdefault(sample.id, []).append(text.strip())
    return clocks.read(), said


def compare(model: Any, folder: Path, faces: int, peer_faces: int, crop: str) -> dict[str, Any]:
    """Time both."""
    samples = make_faces(folder, faces)
    few = samples[:peer_faces]
    ours(model, samples[:2], crop)  # the first call loads and allocates
    peer(model, samples[:1], crop, encode_once=False)
    seconds, answers = ours(model, samples, crop)
    each = [one / faces for one in seconds]
    result: dict[str, Any] = {
        "faces": faces, "questions": len(QUESTIONS), "peer_faces": len(few), "seconds": round(seconds[0], 3),
        "ms_a_face": round(1000 * each[0], 2), "cpu_ms_a_face": round(1000 * each[1], 2),
    }  # fmt: skip
    for name, encode_once in (("generate", False), ("generate_encoded_once", True)):
        took, said = peer(model, few, crop, encode_once=encode_once)
        same = sum(a == b for one in said for a, b in zip(said[one], answers[one], strict=True))
        result[name] = {
            "ms_a_face": round(1000 * took[0] / len(few), 2),
            "cpu_ms_a_face": round(1000 * took[1] / len(few), 2),
            "ratio": round(took[0] / len(few) / each[0], 2),
            "cpu_ratio": round(took[1] / len(few) / each[1], 2),
            "answers_equal": f"{same} of {len(few) * len(QUESTIONS)}",
        }
    return result


def memory(model: str, faces: Sequence[int]) -> dict[str, Any]:
    """Return the peak memory of an evaluation of so many faces, each in a process of its own."""
    peaks = {}
    for count in faces:
        command = [
            sys.executable,
            "-m",
            "benchmarks.evaluation_cost",
            "--model",
            model,
            "--only-peak",
            str(count),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[count] = float(done.stdout.strip().splitlines()[-1])
    low, high = min(peaks), max(peaks)
    grown = 1024 * (peaks[high] - peaks[low]) / max(1, high - low)
    return {
        "peak_mib": {str(count): round(value) for count, value in peaks.items()},
        "kib_more_a_face": round(grown, 1),
    }


def render(result: dict[str, Any]) -> str:
    """Return the result as lines for a person."""
    cost, lines = result["cost"], []
    lines.append(
        f"{cost['faces']} faces, {cost['questions']} questions each: {cost['seconds']:.1f} s, "
        f"{cost['ms_a_face']:.1f} ms a face ({cost['cpu_ms_a_face']:.1f} of the processor), report included"
    )
    for name, what in (("generate", "generate"), ("generate_encoded_once", "generate, picture encoded once")):
        one = cost[name]
        lines.append(
            f"  {what}: {one['ms_a_face']:.1f} ms a face, {one['ratio']:.1f} times as long "
            f"({one['cpu_ratio']:.1f} by processor time); answers equal {one['answers_equal']}"
        )
    if "memory" in result:
        peaks = ", ".join(f"{n} faces {mib} MiB" for n, mib in result["memory"]["peak_mib"].items())
        lines.append(f"  peak memory: {peaks}: {result['memory']['kib_more_a_face']} KiB more a face")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evaluation_cost", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", default="facemllm-tiny", help="name or folder")
    parser.add_argument("--faces", type=int, default=500)
    parser.add_argument("--peer-faces", type=int, default=20, help="faces the peer is asked about")
    parser.add_argument("--crop", choices=("face", "none"), default="face")
    parser.add_argument("--memory-faces", type=int, nargs="*", default=[500, 2000], help="none: leave it out")
    parser.add_argument("--only-peak", type=int, metavar="FACES", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, metavar="FILE")
    args = parser.parse_args()
    model = AutoFaceMLLM.from_pretrained(args.model)
    with tempfile.TemporaryDirectory() as folder:
        if args.only_peak:
            ours(model, make_faces(Path(folder), args.only_peak), "none")
            print(peak_mib())
            return
        cost = compare(model, Path(folder), args.faces, min(args.peer_faces, args.faces), args.crop)
    result = {
        "model": Path(args.model).name,
        "device": f"{model.device.type} ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "crop": args.crop,
        "cost": cost,
    }
    if args.memory_faces:
        result["memory"] = memory(args.model, args.memory_faces)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2) if args.json else render(result))


if __name__ == "__main__":
    main()
