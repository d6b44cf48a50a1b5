"""The peer of the speed benchmarks: transformers' LLaVA, and a FaceMLLM with the same weights.

A language model of the size and shape of SmolLM2-135M and a small CLIP tower, both with random weights, are
saved as ``LlavaForConditionalGeneration`` saves them; both models load that one folder. Speed does not depend
on what the weights are, and so the benchmark needs no download.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from facemllm import AutoFaceMLLM, FaceMLLM
from facemllm.data.attributes import SUBJECTIVE, third_person
from facemllm.data.vocabularies import CELEBA_ATTRIBUTES
from facemllm.language import tiny_language_model

PATCH = 14
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Pair:
    """Two models with the same weights.

    Attributes:
        peer: ``LlavaForConditionalGeneration``.
        processor: Its ``LlavaProcessor``.
        ours: The FaceMLLM.
    """

    peer: Any
    processor: Any
    ours: FaceMLLM


def questions(count: int) -> list[str]:
    """Return so many yes/no questions about attributes.

    Example:
        >>> questions(2)
        ['Would you say that this person is 5 o clock shadow?', 'Would you say that this person ...']
    """
    starts = ("Would you say that", "Is it true that", "Could it be that", "Does it seem that")
    names = [name for name in CELEBA_ATTRIBUTES.labels if name not in SUBJECTIVE]
    return [f"{start} this person {third_person(name)}?" for start in starts for name in names][:count]


def build(image_tokens: int, dtype: torch.dtype, *, layers: int = 30, seed: int = 0) -> Pair:
    """Return both models, for pictures of so many tokens (a square number)."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    side = PATCH * math.isqrt(image_tokens)
    tokenizer = tiny_language_model(
        [f"{text}\nyes no" for text in questions(160)], hidden_size=32, layers=1, heads=2
    ).tokenizer
    vision = CLIPVisionConfig(
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=6,
        image_size=side,
        patch_size=PATCH,
    )
    text = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=image_tokens,
    )
    torch.manual_seed(seed)
    llava = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        # Fresh weights give all tokens nearly the same score; with clear winners answers can be compared.
        llava.lm_head.weight.mul_(20)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        llava.to(dtype).save_pretrained(folder)
        LlavaProcessor(
            image_processor=CLIPImageProcessor(
                size={"shortest_edge": side}, crop_size={"height": side, "width": side}
            ),
            tokenizer=tokenizer,
            patch_size=PATCH,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=TEMPLATE,
        ).save_pretrained(folder)
        del llava
        peer = LlavaForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
        processor = LlavaProcessor.from_pretrained(folder)
        ours = AutoFaceMLLM.from_pretrained(folder, dtype=dtype)
    ours.trunk_cache.max_bytes = 0  # every call reads the picture
    return Pair(peer, processor, ours)


def prompts(pair: Pair, asked: list[str]) -> list[str]:
    """Return the peer's prompts."""
    rendered: list[str] = [
        pair.processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}],
            add_generation_prompt=True,
        )
        for text in asked
    ]
    return rendered


def peer_inputs(pair: Pair, photo: Image.Image, asked: list[str], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return padded ids, their mask, and the picture once."""
    pair.processor.tokenizer.padding_side = "left"
    batch = pair.processor(
        text=prompts(pair, asked), images=[photo] * len(asked), return_tensors="pt", padding=True
    )
    return {**batch, "pixel_values": batch["pixel_values"][:1].to(dtype)}


def peer_embeddings(pair: Pair, batch: dict[str, Tensor]) -> Tensor:
    """Return the peer's input embeddings with the picture encoded once and put into every row [B, L, D]."""
    features = torch.cat(pair.peer.get_image_features(batch["pixel_values"]).pooler_output)
    embeds = pair.peer.get_input_embeddings()(batch["input_ids"])
    at_image = (batch["input_ids"] == pair.peer.config.image_token_id).unsqueeze(-1)
    filled: Tensor = embeds.masked_scatter(at_image, features.repeat(len(embeds), 1).to(embeds.dtype))
    return filled
