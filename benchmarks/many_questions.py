"""Many questions about one picture: facemllm against transformers' LLaVA, with the same weights.

    python -m benchmarks.many_questions --questions 40 --image-tokens 576 --json

Both run in one process. The peer is used at its best: the picture is encoded once, all questions are a batch
of rows, only the last logits are computed, and keys and values are cached while it generates. Both are asked
for one-token answers, and for free answers of up to 8 tokens. Beside it stands what an expert could do by
hand with the peer: read the common beginning once and copy its cache for each question. ``--grow`` measures
how the cost grows with questions and image tokens, and draws it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.llava_pair import Pair, build, peer_embeddings, peer_inputs, questions
from benchmarks.timing import in_turns
from facemllm.language.cache_name import CACHE_NAME
from facemllm.model import engine
from facemllm.model.packing import split
from facemllm.model.vision import views

FREE = 8  # tokens of a free answer


class Asked:
    """The same questions put to both models.

    Args:
        pair: The models.
        count: How many questions.
        dtype: In which both compute.
    """

    def __init__(self, pair: Pair, count: int, dtype: torch.dtype) -> None:
        self.pair = pair
        self.asked = questions(count)
        self.photo = Image.open(str(files("facemllm") / "assets" / "portrait.jpg")).convert("RGB")
        self.batch = peer_inputs(pair, self.photo, self.asked, dtype)
        processor = pair.ours.checked_processor()
        self.views = views(self.photo, processor, crop="none")
        self.cut = split([processor.encode_prompt(question) for question in self.asked])

    def ours(self, tokens: int) -> list[list[int]]:
        """Answer by facemllm; returns the answers' tokens."""
        assert self.cut is not None
        found = engine.generate(
            self.pair.ours, self.views, self.cut, max_new_tokens=tokens, batch_size=len(self.asked)
        )
        return [answer.ids for answer in found[0]]

    @torch.inference_mode()
    def peer(self, tokens: int) -> list[list[int]]:
        """Answer by the peer."""
        rest = {"attention_mask": self.batch["attention_mask"]}
        embeds = peer_embeddings(self.pair, self.batch)
        if tokens == 1:
            logits = self.pair.peer(inputs_embeds=embeds, **rest, logits_to_keep=1, use_cache=False).logits
            return [[token] for token in logits[:, -1].argmax(-1).tolist()]
        out = self.pair.peer.generate(inputs_embeds=embeds, **rest, max_new_tokens=tokens, do_sample=False)
        stop = self.pair.processor.tokenizer.eos_token_id
        return [ids[: ids.index(stop) + 1] if stop in ids else ids for ids in out.tolist()]

    @torch.inference_mode()
    def prefix(self) -> list[list[int]]:
        """Answer by the peer as an expert could: the trunk's cache copied to every question by hand."""
        from transformers import DynamicCache

        model = self.pair.peer
        one = {key: value[:1] for key, value in self.batch.items()}
        rows_of_ids = [
            ids[mask.bool()].tolist()
            for ids, mask in zip(self.batch["input_ids"], self.batch["attention_mask"], strict=True)
        ]
        shortest = min(map(len, rows_of_ids))
        columns = enumerate(zip(*rows_of_ids, strict=False))
        # The picture, and how all questions begin; something is left of each.
        length = min(next((at for at, ids in columns if len(set(ids)) > 1), shortest), shortest - 1)
        rest = [ids[length:] for ids in rows_of_ids]
        start = int((one["attention_mask"][0] == 0).sum())
        trunk = peer_embeddings(self.pair, one)[:, start : start + length]
        cache = DynamicCache(config=model.config.text_config)
        model(inputs_embeds=trunk, use_cache=True, logits_to_keep=1, **{CACHE_NAME: cache})
        cache.batch_repeat_interleave(len(rest))
        width = max(map(len, rest))
        pad = torch.tensor([width - len(branch) for branch in rest])
        rows = torch.tensor([[0] * (width - len(branch)) + branch for branch in rest])
        places = torch.arange(width)
        real = places >= pad[:, None]
        logits = model(
            inputs_embeds=model.get_input_embeddings()(rows),
            attention_mask=torch.cat([torch.ones(len(rows), length, dtype=torch.long), real.long()], 1),
            position_ids=(length + places - pad[:, None]).clamp_min(0),
            logits_to_keep=1,
            **{CACHE_NAME: cache},
        ).logits
        return [[token] for token in logits[:, -1].argmax(-1).tolist()]

    @torch.inference_mode()
    def differences(self) -> dict[str, float]:
        """Return how far the logits of the first answer tokens are apart, and how large they are."""
        embeds = peer_embeddings(self.pair, self.batch)
        peer = self.pair.peer(
            inputs_embeds=embeds, attention_mask=self.batch["attention_mask"], logits_to_keep=1
        ).logits[:, -1]
        ours = engine.first_logits(self.pair.ours, self.views, self.cut)[0]
        gap = (ours.float() - peer.float()).abs()
        return {
            "max_abs_diff": float(f"{gap.max():.3g}"),
            "mean_abs_diff": float(f"{gap.mean():.3g}"),
            "max_abs_logit": round(float(peer.float().abs().max()), 2),
        }


def measure(
    count: int, image_tokens: int, dtype: torch.dtype, rounds: int, *, free: bool, layers: int = 30
) -> dict[str, Any]:
    """Return times, ratio (peer over ours), differences and peak memory."""
    asked = Asked(build(image_tokens, dtype, layers=layers), count, dtype)
    result: dict[str, Any] = {"questions": count, "image_tokens": image_tokens, "dtype": str(dtype)[6:]}
    result |= asked.differences()
    for name, tokens in {"one_token": 1, f"up_to_{FREE}_tokens": FREE}.items():
        if tokens > 1 and not free:
            continue
        same = sum(a == b for a, b in zip(asked.ours(tokens), asked.peer(tokens), strict=True))
        ways = {"peer": lambda n=tokens: asked.peer(n), "facemllm": lambda n=tokens: asked.ours(n)}
        timed = in_turns(ways, rounds, warmup=False)
        result[name] = {**timed, "same_answers": f"{same} of {count}"}
    result |= {key: result["one_token"][key] for key in ("ratio", "peak_mib")}
    if free:
        same = sum(a == b for a, b in zip(asked.ours(1), asked.prefix(), strict=True))
        ways = {"peer": asked.prefix, "facemllm": lambda: asked.ours(1)}
        result["peer_with_copied_prefix"] = {
            **in_turns(ways, rounds, warmup=False),
            "same_answers": f"{same} of {count}",
        }
    return result


def grow(dtype: torch.dtype, layers: int) -> dict[str, list[dict[str, Any]]]:
    """Return how seconds grow with the number of questions, and of image tokens."""
    counts, sizes = (1, 2, 4, 8, 16, 32, 64, 128), (64, 144, 256, 576, 1024, 2304)
    curves: dict[str, list[dict[str, Any]]] = {"questions": [], "image_tokens": []}
    pair = build(576, dtype, layers=layers)
    for count in counts:
        curves["questions"].append(_point(Asked(pair, count, dtype), count))
    for size in sizes:
        curves["image_tokens"].append(_point(Asked(build(size, dtype, layers=layers), 16, dtype), size))
    return curves


def _point(asked: Asked, at: int) -> dict[str, Any]:
    asked.ours(1)
    timed = in_turns({"peer": lambda: asked.peer(1), "facemllm": lambda: asked.ours(1)}, 1, warmup=False)
    return {"at": at, **timed["seconds"], "ratio": timed["ratio"]}


def draw(curves: dict[str, list[dict[str, Any]]], path: Path, layers: int) -> None:
    """Draw both curves, seconds and their ratio."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    titles = {"questions": "questions about 576 image tokens", "image_tokens": "image tokens, 16 questions"}
    for axis, (key, points) in zip(axes, curves.items(), strict=True):
        at = [point["at"] for point in points]
        axis.plot(at, [point["peer"] for point in points], "o-", color="#b35806", label="transformers LLaVA")
        axis.plot(at, [point["facemllm"] for point in points], "o-", color="#2166ac", label="facemllm")
        for point in points:
            axis.annotate(
                f"{point['ratio']:.1f}x",
                (point["at"], point["facemllm"]),
                (0, -14),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color="#2166ac",
            )
        axis.set(xscale="log", yscale="log", xlabel=titles[key], xticks=at, xticklabels=at)
        axis.minorticks_off()
        axis.margins(y=0.15)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds, one-token answers")
    axes[0].legend(frameon=False)
    figure.suptitle(f"The same weights: {layers} layers of SmolLM2-135M's shape, a CLIP tower", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def render(result: dict[str, Any]) -> str:
    """Return a result as lines for a person."""
    lines = [
        (
            f"{result['questions']} questions, {result['image_tokens']} image tokens, {result['dtype']}, "
            f"{result['threads']} threads; logits differ by at most {result['max_abs_diff']:.2g} "
            f"(they reach {result['max_abs_logit']})"
        )
    ]
    for name in ("one_token", f"up_to_{FREE}_tokens", "peer_with_copied_prefix"):
        if name in result:
            one = result[name]
            low, high = one["ratio_range"]
            lines.append(
                f"  {name}: {one['ratio']:.1f} times as fast ({low:.1f} to {high:.1f}), "
                f"{one['seconds']['facemllm']:.2f} s against {one['seconds']['peer']:.2f} s; peak "
                f"{one['peak_mib']['facemllm']} MiB against {one['peak_mib']['peer']}; "
                f"the same answers: {one['same_answers']}"
            )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.many_questions", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--image-tokens", type=int, default=576, help="a square number")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--layers", type=int, default=30, help="of the language model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-free", action="store_true", help="one-token answers only")
    parser.add_argument("--grow", type=Path, metavar="PNG", help="measure and draw how the cost grows")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    dtype = getattr(torch, args.dtype)
    environment = {"threads": torch.get_num_threads(), "torch": torch.__version__, "layers": args.layers}
    if args.grow is not None:
        result: dict[str, Any] = environment | {"dtype": args.dtype, "curves": grow(dtype, args.layers)}
        draw(result["curves"], args.grow, args.layers)
        text = json.dumps(result["curves"], indent=2)
    else:
        found = measure(
            args.questions, args.image_tokens, dtype, args.rounds, free=not args.no_free, layers=args.layers
        )
        result = environment | found
        text = render(result)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write((json.dumps(result, indent=2) if args.json else text) + "\n")


if __name__ == "__main__":
    main()
