"""A training step on many question-answer pairs: facemllm's packs against transformers' LLaVA, same weights.

    python -m benchmarks.train_step --branches 40 --json

The peer sees one pair a sample, padded in micro-batches whose gradients add up, as its users train; with
``--peer-logits kept`` it computes logits for answer positions only, which its users would have to write.
The vision tower is frozen in both, connector and language model train. Loss and gradients are compared first.
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
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.llava_pair import Pair, build, questions
from benchmarks.timing import in_turns
from facemllm.processing.template import IGNORE
from facemllm.training.batches import Batch, Pairs, packed
from facemllm.training.losses import answer_loss


class Step:
    """One step of both models on the same pairs.

    Args:
        pair: The models.
        branches: K, question-answer pairs about one picture.
        images: How many pictures.
        micro: Samples in a micro-batch of the peer.
        kept: Whether the peer computes logits at answer positions only.
    """

    def __init__(self, pair: Pair, branches: int, images: int, micro: int, *, kept: bool) -> None:
        self.pair, self.micro, self.kept = pair, micro, kept
        photo = Image.open(str(files("facemllm") / "assets" / "portrait.jpg")).convert("RGB")
        processor = pair.ours.checked_processor()
        self.pixels = processor.pixels([photo])
        asked = questions(branches)
        encoded = tuple(
            processor.encode_qa(question, "yes" if index % 2 else "no")
            for index, question in enumerate(asked)
        )
        drawn = [Pairs(str(n), self.pixels[0], encoded, ("attributes",) * branches) for n in range(images)]
        self.batch: Batch = packed(drawn, key="pixel_values")
        self.rows = processor.pad(encoded * images, with_labels=True, left=False)
        for model in (pair.peer, pair.ours):
            model.train()
        for frozen in (pair.peer.model.vision_tower, pair.ours.encoder):
            frozen.requires_grad_(False)

    def ours(self) -> Tensor:
        """Run facemllm forward and backward; returns the loss."""
        self.pair.ours.zero_grad(set_to_none=True)
        loss = answer_loss(self.batch.logits(self.pair.ours), self.batch.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def peer(self) -> Tensor:
        """Run the peer forward and backward, micro-batch by micro-batch; returns the loss."""
        self.pair.peer.zero_grad(set_to_none=True)
        tokens = (self.rows["labels"][:, 1:] != IGNORE).sum()
        total = torch.zeros(())
        for start in range(0, len(self.rows["labels"]), self.micro):
            rows = {key: value[start : start + self.micro] for key, value in self.rows.items()}
            labels = rows.pop("labels")[:, 1:]
            keep: Any = 0
            if self.kept:
                keep = torch.nonzero((labels != IGNORE).any(0)).flatten()
                labels = labels[:, keep]
            logits = self.pair.peer(
                **rows, pixel_values=self.pixels.expand(len(labels), -1, -1, -1), logits_to_keep=keep
            ).logits
            logits = logits if self.kept else logits[:, :-1]
            loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="sum") / tokens
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def differences(self) -> dict[str, Any]:
        """Return both losses, and the largest relative difference between gradients of the same tensor."""
        ours, peer = float(self.ours()), float(self.peer())
        found = dict(self.pair.ours.named_parameters())
        worst, name = 0.0, ""
        for theirs, parameter in self.pair.peer.named_parameters():
            if parameter.grad is None:
                continue
            mine = found[_ours(theirs)].grad
            assert mine is not None, theirs
            gap = float((mine - parameter.grad).abs().max() / parameter.grad.abs().max().clamp_min(1e-20))
            if gap > worst:
                worst, name = gap, theirs
        return {
            "loss": {"facemllm": ours, "peer": peer},
            "max_relative_gradient_difference": float(f"{worst:.3g}"),
            "of": name,
        }


def _ours(name: str) -> str:
    """Return our name of a tensor of the peer."""
    name = name.replace("model.multi_modal_projector.", "connector.mlp.")
    return name.replace("model.language_model.", "language_model.model.").replace(
        "lm_head.", "language_model.lm_head.", 1
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return differences, times and the ratio of pairs per second."""
    pair = build(args.image_tokens, torch.float32, layers=args.layers)
    step = Step(pair, args.branches, args.images, args.micro, kept=args.peer_logits == "kept")
    differences = step.differences()
    timed = in_turns({"peer": step.peer, "facemllm": step.ours}, args.rounds, warmup=False)
    count = args.branches * args.images
    return {
        "branches": args.branches,
        "images": args.images,
        "image_tokens": args.image_tokens,
        "peer_micro_batch": args.micro,
        "peer_logits": args.peer_logits,
        **differences,
        **timed,
        "pairs_per_second": {k: round(count / v, 3) for k, v in timed["seconds"].items()},
    }


def render(result: dict[str, Any]) -> str:
    """Return a result as a line for a person."""
    low, high = result["ratio_range"]
    return (
        f"{result['branches']} pairs about each of {result['images']} pictures of {result['image_tokens']} "
        f"tokens: {result['ratio']:.1f} times as fast ({low:.1f} to {high:.1f}), "
        f"{result['seconds']['facemllm']:.2f} s against {result['seconds']['peer']:.2f} s; "
        f"gradients differ by {result['max_relative_gradient_difference']:.1e} of a tensor's largest; "
        f"peak {result['peak_mib']['facemllm']} MiB against {result['peak_mib']['peer']}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_step", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--branches", type=int, default=40, help="question-answer pairs about a picture")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--image-tokens", type=int, default=576, help="a square number")
    parser.add_argument("--micro", type=int, default=4, help="samples in a micro-batch of the peer")
    parser.add_argument("--peer-logits", choices=("all", "kept"), default="all")
    parser.add_argument("--layers", type=int, default=30, help="of the language model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    result = {"threads": torch.get_num_threads(), "torch": torch.__version__, "layers": args.layers}
    result |= measure(args)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write((json.dumps(result, indent=2) if args.json else render(result)) + "\n")


if __name__ == "__main__":
    main()
