"""What each recipe takes: measured on meta tensors, and on paper to 1,024 GPUs. Rewrites docs/sizing.md.

    python -m benchmarks.sizing

Nothing is trained and nothing is downloaded: it takes a minute on any machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.pages import filled
from facemllm.training import ThreeStageRecipe, build_on_meta
from facemllm.training.sizing import rows_of, size_stage

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "sizing.md"

DEVICES = {"tiny": 1, "smol": 1}
"""On how many devices a recipe's batch is shared; 8 for the others."""

PAIRS = 50_000_000
"""Image-text pairs of LAION-Face. Source: FaRL, arXiv 2112.03109, section 3.1."""
GPUS = (1, 8, 64, 256, 1024)
PEAK, USED = 989e12, 0.40
"""Operations a second of an H100 SXM (bfloat16, dense; NVIDIA's data sheet), and the share of it: assumed."""
LINK = 50e9
"""Bytes a second of each GPU over the network, in both directions at once: 400 Gbit/s, as in a DGX H100."""
SMALLEST = 8
"""Captions a GPU must have in a step to be busy: assumed."""


def recipes() -> dict[str, list[dict[str, Any]]]:
    """Count every stage of every recipe."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in ThreeStageRecipe.names():
        recipe, devices = ThreeStageRecipe.load(name), DEVICES.get(name, 8)
        model = build_on_meta(recipe)
        found[name] = []
        for stage in recipe.stages:
            size = size_stage(model, stage, devices=devices)
            found[name].append(
                {
                    "stage": stage.name,
                    "devices": devices,
                    "faces": rows_of(stage, model.config.image_tokens, devices)[0],
                    **vars(size),
                    "ddp": size.ddp(),
                    "ddp_checkpointed": size.ddp() - size.activations + size.checkpointed,
                    "fsdp": size.fsdp(devices),
                    "seconds": size.operations / (PEAK * USED) if devices > 1 else None,
                }
            )
    return found


def laion(name: str) -> list[dict[str, Any]]:
    """Work out stage one of a recipe over all of LAION-Face, once, on more and more GPUs."""
    recipe = ThreeStageRecipe.load(name)
    model = build_on_meta(recipe)
    stage = recipe.stages[0]
    rows, known = [], {}
    for gpus in GPUS:
        batch = max(stage.batch_size, gpus * SMALLEST)
        share = rows_of(stage.model_copy(update={"batch_size": batch}), model.config.image_tokens, gpus)
        if share not in known:  # the same on each GPU, however many there are
            known[share] = size_stage(model, stage.model_copy(update={"batch_size": share[0]}))
        size = known[share]
        steps = -(-PAIRS // batch)
        compute = size.operations / (PEAK * USED)
        exchanged = _ring(size.gradients, gpus)
        sharded = 3 * _ring(2 * size.parameters, gpus) / 2
        rows.append(
            {
                "gpus": gpus,
                "batch": batch,
                "faces_each": share[0],
                "steps": steps,
                "compute_s": compute,
                "ddp_exchange_s": exchanged / LINK,
                "fsdp_exchange_s": sharded / LINK,
                "hours": steps * (compute + exchanged / LINK) / 3600,
                "faces_per_second": batch / (compute + exchanged / LINK),
                "memory": size.ddp() - size.activations + size.checkpointed,
            }
        )
    return rows


def _ring(size: float, gpus: int) -> float:
    """Return the bytes each GPU sends in a ring all-reduce."""
    return 2 * (gpus - 1) / gpus * size


def recipe_table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table of recipes in Markdown."""
    heads = (
        "recipe, stage", "weights", "train", "faces a device", "weights, gradients, moments",
        "activations (checkpointed)", "a device, DDP (checkpointed)", "one of 8, FSDP", "10^12 operations",
    )  # fmt: skip
    rows = []
    for name, stages in found.items():
        for one in stages:
            rows.append(
                (
                    f"`{name}`, {one['stage']}",
                    _count(one["parameters"]),
                    _count(one["trained"]),
                    one["faces"],
                    _gib(one["weights"] + one["gradients"] + one["optimizer"]),
                    f"{_gib(one['activations'])} ({_gib(one['checkpointed'])})",
                    f"{_gib(one['ddp'])} ({_gib(one['ddp_checkpointed'])})",
                    _gib(one["fsdp"]) if one["devices"] > 1 else "–",
                    f"{one['operations'] / 1e12:.3g}",
                )
            )
    return _table(heads, rows)


def laion_table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table of LAION-Face in Markdown."""
    heads = (
        "recipe", "GPUs", "captions a step (a GPU)", "steps", "computing, s", "exchange, DDP, s",
        "exchange, FSDP, s", "hours", "faces a second", "memory a GPU, checkpointed",
    )  # fmt: skip
    return _table(
        heads,
        [
            (
                f"`{name}`",
                f"{row['gpus']:,}",
                f"{row['batch']:,} ({row['faces_each']})",
                f"{row['steps']:,}",
                f"{row['compute_s']:.2f}",
                f"{row['ddp_exchange_s']:.4f}",
                f"{row['fsdp_exchange_s']:.2f}",
                f"{row['hours']:,.1f}",
                f"{row['faces_per_second']:,.0f}",
                _gib(row["memory"]),
            )
            for name, rows in found.items()
            for row in rows
        ],
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.3g} MiB"


def _count(number: int) -> str:
    return f"{number / 1e9:.3g} B" if number >= 1e9 else f"{number / 1e6:.3g} M"


def main() -> None:
    """Count, write the numbers and rewrite the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "sizing.json")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--table", action="store_true", help="count nothing anew: write the page from --out")
    options = parser.parse_args()
    if not options.table:
        scaled = {name: laion(name) for name in ("llava15-7b", "qformer-7b", "qwen3-4b")}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"recipes": recipes(), "laion": scaled}, indent=1) + "\n")
    kept = json.loads(options.out.read_text())
    tables = {"recipes": recipe_table(kept["recipes"]), "laion": laion_table(kept["laion"])}
    options.page.write_text(filled(options.page.read_text(), tables)[0])
    print(f"wrote {options.out} and {options.page}")


if __name__ == "__main__":
    main()
