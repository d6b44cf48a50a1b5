"""Where the time of a stage goes, and how near its memory comes to what was predicted.

    python -m benchmarks.training_loop --data DATA [--steps 40] [--source utkface:test]

Runs the last stage of the recipe ``tiny`` on the built-in model, with cached features as the recipe has it,
and writes ``benchmarks/results/training_loop.json`` and a table, ``training_loop.md``, beside it.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path

import torch

from facemllm import AutoFaceMLLM, ThreeStageRecipe, Trainer
from facemllm.training.recipe import DataSource

RESULTS = Path(__file__).parent / "results"
NAMES = {
    "forward": "forward",
    "backward": "backward",
    "data": "waiting for and packing the batch",
    "check": "guards",
    "update": "clipping and AdamW",
    "checkpoint": "checkpoints",
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--source", default="utkface:test")
    options = parser.parse_args()
    dataset, split = options.source.split(":")
    recipe = ThreeStageRecipe.load("tiny")
    stage = recipe.stages[-1].model_copy(
        update={"steps": options.steps, "data": (DataSource(dataset=dataset, split=split),)}
    )
    recipe = recipe.model_copy(update={"stages": (stage,), "encoder_phase": None, "language_phase": None})
    model = AutoFaceMLLM.from_pretrained("facemllm-tiny").float()
    with tempfile.TemporaryDirectory() as out:
        Trainer(model, recipe, output_dir=out, data_root=options.data, progress=True).fit()
        lines = [json.loads(line) for line in (Path(out) / "log.jsonl").read_text().splitlines()]
    seconds = next(line["seconds"] for line in lines if "seconds" in line)
    memory = next(line for line in lines if "peak_bytes" in line)
    total = seconds.pop("all")
    result = {
        "recipe": "tiny, stage 3",
        "source": options.source,
        "steps": options.steps,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "seconds": total,
        "share": {name: round(value / total, 4) for name, value in seconds.items()},
        "forward_and_backward": round((seconds["forward"] + seconds["backward"]) / total, 4),
        "peak_mib": round(memory["peak_bytes"] / 2**20),
        "predicted_mib": round(memory["predicted_bytes"] / 2**20),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training_loop.json").write_text(json.dumps(result, indent=2) + "\n")
    rows = [f"| {NAMES.get(name, name)} | {share:.1%} |" for name, share in result["share"].items()]
    rest = 1 - sum(result["share"].values())
    off = result["predicted_mib"] / result["peak_mib"] - 1
    what = f"{result['recipe']}, {options.steps} steps, {result['threads']} thread(s)"
    text = [
        f"{what}, {total / options.steps:.2f} s a step.",
        "",
        "| what | share of the time |",
        "| --- | ---: |",
        *rows,
        f"| everything else | {rest:.1%} |",
        f"| **forward and backward** | **{result['forward_and_backward']:.1%}** |",
        "",
        f"Peak memory {result['peak_mib']:,} MiB, predicted {result['predicted_mib']:,} MiB ({off:+.1%}).",
    ]
    (RESULTS / "training_loop.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
