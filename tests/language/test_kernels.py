"""Our attention inside transformers models: the same numbers as their own, and never an ignored argument."""

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from facemllm.core.errors import ConfigError
from facemllm.language.kernels import NAME, attention_forward, attention_reasons, use_our_attention

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("padded", [False, True])
def test_a_causal_lm_gives_the_same_logits_and_gradients(family, padded):
    kinds = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM)}
    config, kind = kinds[family]
    torch.manual_seed(0)
    model = kind(config(**SIZES)).double()
    ids = torch.randint(0, 50, (3, 9))
    mask = torch.ones(3, 9, dtype=torch.long)
    if padded:
        mask[1, :4] = 0
    results = []
    for name in ("sdpa", NAME):
        if name == NAME:
            assert use_our_attention(model) == []
        else:
            model.set_attn_implementation(name)
        logits = model(input_ids=ids, attention_mask=mask if padded else None).logits[mask.bool()]
        gradients = torch.autograd.grad(logits.square().sum(), list(model.parameters()))
        results.append((logits, gradients))
    (expected, gradients), (found, ours) = results
    assert torch.allclose(found, expected, atol=1e-9)
    for gradient, own in zip(gradients, ours, strict=True):
        assert torch.allclose(gradient, own, atol=1e-7)


@pytest.mark.parametrize("cache", [None, "static"])
def test_generation_with_a_cache_is_the_same(cache):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    ids = torch.randint(0, 50, (2, 5))
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    model.set_attn_implementation("sdpa")
    expected = model.generate(ids, **options)
    options["cache_implementation"] = cache
    use_our_attention(model)
    assert torch.equal(model.generate(ids, **options), expected)


def test_a_vision_tower_gives_the_same_states():
    use_our_attention(LlamaForCausalLM(LlamaConfig(**SIZES)))  # registers the name
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=28,
        patch_size=14,
    )
    torch.manual_seed(0)
    tower = CLIPVisionModel(config).eval()
    pixels = torch.randn(2, 3, 28, 28)
    states = []
    for name in ("sdpa", NAME):
        tower.set_attn_implementation(name)
        states.append(tower(pixels).last_hidden_state)
    assert torch.allclose(*states, atol=1e-5)


def test_a_sliding_window_is_a_reason():
    model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4))
    assert attention_reasons(model) == ["its attention has a sliding window"]
    before = model.config._attn_implementation
    assert use_our_attention(model)
    assert model.config._attn_implementation == before


def test_a_sliding_window_set_by_name_is_honoured():
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4)).eval()
    with torch.no_grad():  # so that attention matters
        for parameter in model.parameters():
            parameter.mul_(3)
    ids = torch.randint(0, 50, (2, 12))
    use_our_attention(LlamaForCausalLM(LlamaConfig(**SIZES)))  # registers the name
    found = {}
    for name in ("eager", NAME):
        model.set_attn_implementation(name)
        found[name] = model(ids).logits
    assert torch.allclose(found["eager"], found[NAME], atol=1e-4)
    model.config.sliding_window = None
    full = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None)).eval()
    full.load_state_dict(model.state_dict())
    assert not torch.allclose(full(ids).logits, found[NAME], atol=1e-2)  # else nothing was shown


def test_a_pack_and_a_sliding_window_do_not_go_together():
    class Anything:
        def attend(self, *args, **options):
            pytest.fail("the window was ignored")

    x = torch.randn(1, 2, 3, 4)
    with pytest.raises(
        ConfigError, match=r"a pack cannot go through a sliding window(?s:.*)sliding_window=4"
    ):
        attention_forward(torch.nn.Identity(), x, x, x, None, pack=Anything(), sliding_window=4)


@pytest.mark.parametrize("name", ["softcap", "s_aux", "position_bias"])
def test_what_we_do_not_compute_is_refused(name):
    x = torch.randn(1, 2, 3, 4)
    with pytest.raises(ConfigError, match=f"cannot honour an argument of this model(?s:.)*{name}"):
        attention_forward(torch.nn.Identity(), x, x, x, None, **{name: torch.ones(1)})
