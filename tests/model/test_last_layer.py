"""The last layer leaves the trunk out, in every kind of model, and the answers stay what they are."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from threading import Event
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from facemllm.language import LanguageModel, apply_lora, tiny_language_model
from facemllm.model import FaceMLLM, engine, last_layer
from facemllm.model.branches import Branches
from facemllm.model.packing import split
from facemllm.model.passes import FirstPass
from facemllm.model.vision import views

QUESTIONS = ["How old is this person?", "How tall is this person?", "Is the person smiling?", "Hm?"]
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2 = {"n_embd": 64, "n_layer": 3, "n_head": 4}  # layers that are not known as such: nothing is left out
FAMILIES = [
    "Llama",
    "Qwen2",
    "Qwen3",
    "Gemma",
    "Olmo2",
    "Phi3",
    "GPTNeoX",
    "SmolLM3",
    "Granite",
    "Cohere",
    "GPT2",
]


def build(family: str, *, lora: bool = False) -> FaceMLLM:
    tokenizer = tiny_language_model(QUESTIONS, hidden_size=32, layers=1, heads=2, vocab_size=600).tokenizer
    options = GPT2 if family == "GPT2" else SMALL
    config = getattr(transformers, f"{family}Config")(vocab_size=len(tokenizer), **options)
    kind = "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    torch.manual_seed(0)
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():  # fresh weights are so small that attention would hardly matter
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    if lora:
        model, _ = apply_lora(model, {"r": 2})
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.1)
    made = FaceMLLM.from_parts(encoder="dlib-face", language_model=LanguageModel(model, tokenizer))
    assert made.plain_reasons == []
    return made


def logits(model: FaceMLLM, portrait: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits of the engine and of one row a question."""
    processor = model.checked_processor()
    seen = views(portrait, processor)
    prompts = [processor.encode_prompt(question) for question in QUESTIONS]
    cut = split(prompts)
    assert cut is not None
    together = engine.first_logits(model, seen, cut)[0]
    features = model.encode([seen[0].crop])
    rows = [
        model(input_ids=torch.tensor([p.input_ids]), encoder_features=features, logits_to_keep=1).logits[
            0, -1
        ]
        for p in prompts
    ]
    return together, torch.stack(rows)


@pytest.mark.parametrize("family", [*FAMILIES, "Llama with LoRA"])
@torch.no_grad()
def test_logits_are_those_of_separate_sequences(family, portrait):
    model = build(family.split()[0], lora="LoRA" in family)
    model.trunk_cache.max_bytes = 0
    together, alone = logits(model, portrait)
    assert torch.allclose(together, alone, atol=1e-5 * float(alone.abs().max()))
    found = last_layer._last_layer(model.language_model)
    assert (found is None) == (family == "GPT2")


def rows_of_layers(model: FaceMLLM, run: Any) -> list[int]:
    """Return how many tokens went through the feed-forward part of each layer."""
    counts: list[int] = []
    handles = [
        layer.mlp.register_forward_pre_hook(lambda module, args: counts.append(args[0].shape[1]))
        for layer in model.language_model.model.layers
    ]
    run()
    for handle in handles:
        handle.remove()
    return counts


def test_the_trunk_is_left_out_of_the_last_layer_only(portrait):
    model = build("Llama")
    processor = model.checked_processor()
    cut = split([processor.encode_prompt(question) for question in QUESTIONS])
    rest = Branches(cut.branches).total
    whole = len(cut.trunk) + rest
    counts = rows_of_layers(model, lambda: model.ask(portrait, QUESTIONS, max_new_tokens=1))
    assert counts == [whole, whole, rest]
    counts = rows_of_layers(model, lambda: model.ask(portrait, QUESTIONS, max_new_tokens=1))
    assert counts == [rest] * 3  # from the cache

    from PIL import Image, ImageOps

    mirrored = ImageOps.mirror(Image.open(portrait).convert("RGB"))
    # One picture from the cache: the other's trunk is read alone, and not to its end.
    counts = rows_of_layers(model, lambda: model.ask([portrait, mirrored], QUESTIONS, max_new_tokens=1))
    assert counts == [len(cut.trunk)] * 2 + [rest] * 3


def test_a_planted_fault_is_seen(portrait, monkeypatch):
    """Rows of the last layer that are one off change the logits: the comparison is not empty."""
    cut = last_layer._rows

    def wrong(value: Any, length: int, part: slice) -> Any:
        all_of_them = isinstance(value, tuple) and isinstance(value[-1], dict)
        return cut(value, length, slice(part.start - 1, -1) if all_of_them and part.start else part)

    model = build("Llama")
    monkeypatch.setattr(last_layer, "_rows", wrong)
    with torch.no_grad():
        together, alone = logits(model, portrait)
    assert not torch.allclose(together, alone, atol=1e-2 * float(alone.abs().max()))


def test_arguments_are_cut_where_it_is_clear():
    x = torch.arange(6).view(1, 3, 2)
    cut = last_layer._rows(
        ((x,), {"pair": (x, x), "mask": torch.zeros(1, 1, 1, 1), "n": 3}), 3, slice(1, None)
    )
    assert cut[0][0].shape == (1, 2, 2)
    assert [t.shape[1] for t in cut[1]["pair"]] == [2, 2]
    assert cut[1]["n"] == 3
    assert last_layer._rows(((x,), {"bias": torch.zeros(2, 4, 3)}), 3, slice(1, None)) is None


def test_a_layer_whose_arguments_cannot_be_cut_runs_as_it_is(portrait):
    model = build("Llama")
    layer = last_layer._last_layer(model.language_model)
    inner = layer.forward

    def forward(hidden: torch.Tensor, *, bias: Any = None, **options: Any) -> Any:
        return inner(hidden, **options)

    layer.forward = forward
    whole: list[int] = []

    def add_bias(module: nn.Module, args: Any, kwargs: Any) -> Any:
        whole.append(args[0].shape[1])
        return args, {**kwargs, "bias": torch.zeros(args[0].shape[1], args[0].shape[1])}

    layer.register_forward_pre_hook(add_bias, with_kwargs=True)
    layer.mlp.register_forward_pre_hook(lambda module, args: whole.append(args[0].shape[1]))
    model.trunk_cache.max_bytes = 0
    with torch.no_grad():
        together, alone = logits(model, portrait)
    assert torch.allclose(together, alone, atol=1e-5 * float(alone.abs().max()))
    assert whole[0] == whole[1]


def test_a_pass_of_another_is_left_alone():
    model = build("Llama").language_model
    ids = torch.arange(6)[None]
    expected = model(ids).logits
    with last_layer.without_trunk(model, FirstPass(2, Branches([(1, 2), (3, 4)]))):
        assert torch.equal(model(ids).logits, expected)


def test_another_thread_that_asks_at_the_same_time_changes_nothing(portrait):
    model = build("Llama")
    model.trunk_cache.max_bytes = 0
    expected, over = logits(model, portrait)[0], Event()

    def others() -> None:
        while not over.is_set():
            with last_layer.without_trunk(model.language_model, FirstPass(2, None)):
                time.sleep(0.0005)  # as long as another's reading takes to come by

    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(others) for _ in range(2)]
        try:
            for _ in range(20):
                assert torch.equal(logits(model, portrait)[0], expected)
        finally:
            over.set()
        for one in busy:
            one.result()


def test_a_layer_is_hooked_once_and_its_copy_too(portrait):
    model = build("Llama")
    model.trunk_cache.max_bytes = 0
    logits(model, portrait)
    copied = deepcopy(model)
    assert torch.equal(logits(copied, portrait)[0], logits(model, portrait)[0])
    for one in (model, copied):
        hooks = one.language_model.get_decoder().layers[-1]._forward_pre_hooks
        assert len(hooks) == 1
