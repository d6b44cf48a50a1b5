"""Whether our encoders and our Q-Former cost more than those of timm and transformers.

    python -m benchmarks.parts --json

Encoders carry the very same module; the Q-Former is compared with transformers' BLIP-2 one of equal sizes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import in_turns
from facemllm.connectors import create_connector
from facemllm.encoders import create_encoder


def pairs(batch: int) -> dict[str, dict[str, Callable[[], Any]]]:
    """Return the ways to be timed: ours first, then the peer's."""
    from transformers import Blip2QFormerConfig, Blip2QFormerModel

    torch.manual_seed(0)
    pixels = torch.randn(batch, 3, 224, 224)
    vit: Any = create_encoder("timm/vit_small_patch16_224").eval()
    clip_config = {
        "model_type": "clip_vision_model",
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "image_size": 224,
        "patch_size": 16,
    }
    clip: Any = create_encoder("hf", config=clip_config).eval()
    features = torch.randn(batch, 196, 384)
    ours: Any = create_connector(
        "qformer", in_dim=384, out_dim=384, num_queries=32, width=384, heads=6, layers=4, cross_every=1
    ).eval()
    config = Blip2QFormerConfig(
        hidden_size=384,
        num_hidden_layers=4,
        num_attention_heads=6,
        intermediate_size=1536,
        cross_attention_frequency=1,
        encoder_hidden_size=384,
    )
    peer = Blip2QFormerModel(config).eval()
    queries = torch.randn(batch, 32, 384)
    out = torch.nn.Linear(384, 384)
    return {
        "timm encoder": {"facemllm": lambda: vit(pixels), "timm": lambda: vit.model.forward_features(pixels)},
        "CLIP encoder": {
            "facemllm": lambda: clip(pixels),
            "transformers": lambda: clip.model(pixels, output_hidden_states=True).hidden_states[-2],
        },
        "Q-Former": {
            "facemllm": lambda: ours(features),
            "transformers": lambda: out(
                peer(query_embeds=queries, encoder_hidden_states=features).last_hidden_state
            ),
        },
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts", description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    result: dict[str, Any] = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    with torch.inference_mode():
        for name, ways in pairs(args.batch).items():
            result[name] = in_turns(ways, args.rounds)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    lines = [
        f"{name}: {one['ratio']:.2f} of the peer's time, in rounds {one['ratio_range']}"
        for name, one in result.items()
        if isinstance(one, dict)
    ]
    sys.stdout.write((json.dumps(result, indent=2) if args.json else "\n".join(lines)) + "\n")


if __name__ == "__main__":
    main()
