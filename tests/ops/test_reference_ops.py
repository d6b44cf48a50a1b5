"""Norm, rotary positions and SwiGLU against what transformers computes, and their invariants."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facemllm.core.errors import ConfigError
from facemllm.ops import backend_report, reference, rms_norm, rotary, swiglu, swiglu_mlp, use_backend

RUNNING = [name for name, reasons in backend_report().items() if not reasons]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def bound(eager: torch.Tensor, exact: torch.Tensor) -> float:
    """Twice the error of plain torch, and one ulp of the largest value."""
    return float(2 * (eager - exact).abs().max() + torch.finfo(eager.dtype).eps * exact.abs().max())


def test_rms_norm_is_that_of_torch():
    x, weight = torch.randn(3, 8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    torch.testing.assert_close(
        rms_norm(x, weight, eps=1e-5), torch.nn.functional.rms_norm(x, (8,), weight, 1e-5)
    )


def test_rms_norm_adds_up_in_float32():
    x = torch.full((64,), 300.0, dtype=torch.float16)  # its square is beyond float16
    assert torch.allclose(rms_norm(x, torch.ones(64, dtype=torch.float16)).float(), torch.ones(64))


@pytest.mark.parametrize("name", [None, *RUNNING])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rms_norm_of_every_backend_is_as_good_as_eager(name, dtype):
    torch.manual_seed(0)
    x, weight = torch.randn(40, 64, dtype=dtype), torch.randn(64, dtype=dtype)
    exact = reference.rms_norm(x.double(), weight.double(), eps=1e-5)
    limit = bound(reference.rms_norm(x, weight, eps=1e-5), exact)
    found = rms_norm(x, weight, eps=1e-5, backend=name)
    assert found.dtype == dtype
    assert (found - exact).abs().max() <= limit
    assert (rms_norm(x, 1.1 * weight, eps=1e-5, backend=name) - exact).abs().max() > limit  # can fail


@pytest.mark.parametrize("name", [None, "eager"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_swiglu_layer_is_as_good_as_eager(name, dtype):
    torch.manual_seed(0)
    inputs = [torch.randn(s, dtype=dtype) for s in ((2, 5, 16), (24, 16), (24, 16), (16, 24))]
    x, gate, up, down = (y.double() for y in inputs)
    exact = (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T
    assert (swiglu_mlp(*inputs, backend=name) - exact).abs().max() <= bound(
        reference.swiglu_mlp(*inputs), exact
    )


def test_ops_without_a_kernel_say_so_if_it_is_asked_for():
    x = torch.ones(1, 1, 2, 4)
    with pytest.raises(ConfigError, match="sdpa: it has no rotary of its own"):
        rotary(x, torch.arange(2), backend="sdpa")
    with pytest.raises(ConfigError, match="sdpa: it has no swiglu of its own"):
        swiglu(x, x, backend="sdpa")
    with pytest.raises(ConfigError, match=r"sdpa: x is torch.float32 and the weight torch.float64"):
        rms_norm(x, torch.ones(4, dtype=torch.float64), backend="sdpa")
    with pytest.raises(ConfigError, match="unknown attention backend 'flash9'"):
        rms_norm(x, torch.ones(4), backend="flash9")
    with use_backend("sdpa"):  # chooses for attention, and for what else it has
        assert torch.equal(rotary(x, torch.zeros(2)), x)
        assert torch.equal(swiglu(x, x), reference.swiglu(x, x))


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
