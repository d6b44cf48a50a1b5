"""Norm, rotary positions and SwiGLU against what transformers computes, and their invariants."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facemllm.ops import rms_norm, rotary, swiglu


def test_rms_norm_is_that_of_torch():
    x, weight = torch.randn(3, 8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    torch.testing.assert_close(
        rms_norm(x, weight, eps=1e-5), torch.nn.functional.rms_norm(x, (8,), weight, 1e-5)
    )


def test_rms_norm_adds_up_in_float32():
    x = torch.full((64,), 300.0, dtype=torch.float16)  # its square is beyond float16
    assert torch.allclose(rms_norm(x, torch.ones(64, dtype=torch.float16)).float(), torch.ones(64))


@settings(max_examples=30, deadline=None)
@given(first=st.integers(0, 500), second=st.integers(0, 500), shift=st.integers(0, 500))
def test_rotary_depends_on_distance_only(first, second, shift):
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64).unbind(0)

    def score(a: int, b: int) -> torch.Tensor:
        return (rotary(q, torch.tensor([a])) * rotary(k, torch.tensor([b]))).sum()

    torch.testing.assert_close(score(first, second), score(first + shift, second + shift))


def test_rotary_is_that_of_llama():
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    config = LlamaConfig(hidden_size=16, num_attention_heads=2, num_hidden_layers=1)
    q = torch.randn(2, 2, 5, 8)
    positions = torch.tensor([[0, 1, 2, 3, 4], [3, 4, 5, 3, 4]])
    cos, sin = LlamaRotaryEmbedding(config)(q, positions)
    torch.testing.assert_close(rotary(q, positions), apply_rotary_pos_emb(q, q, cos, sin)[0])


def test_gradients():
    x = torch.randn(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rms_norm, (x, weight))
    assert torch.autograd.gradcheck(lambda x: rotary(x, torch.arange(3)), (x,))
    assert torch.autograd.gradcheck(swiglu, (x, x.detach().clone().requires_grad_()))
