"""Modules over ops: what they compute, and that every weight takes part."""

from __future__ import annotations

import pytest
import torch

from facemllm.core.errors import ConfigError
from facemllm.layers import MLP, Attention, TransformerBlock
from facemllm.ops import Causal


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = Attention(8, 2), torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.q.weight, ours.k.weight, ours.v.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.q.bias, torch.zeros(8), ours.v.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0])


def test_causal_attention_does_not_look_ahead():
    layer, x = Attention(8, 2), torch.randn(1, 5, 8)
    changed = x.clone()
    changed[:, 3:] = 0
    torch.testing.assert_close(layer(x, mask=Causal())[:, :3], layer(changed, mask=Causal())[:, :3])
    assert not torch.allclose(layer(x)[:, :3], layer(changed)[:, :3])


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("context_dim", [None, 6])
def test_gradients_reach_all_weights(norm_first, context_dim):
    block = TransformerBlock(8, 2, context_dim=context_dim, norm_first=norm_first)
    context = None if context_dim is None else torch.randn(2, 7, context_dim)
    out = block(torch.randn(2, 3, 8), context)
    assert out.shape == (2, 3, 8)
    (out * torch.randn_like(out)).sum().backward()
    assert [
        name for name, p in block.named_parameters() if p.grad is None or not p.grad.abs().max() > 0
    ] == []


def test_norm_after_gives_normalised_output():
    out = TransformerBlock(8, 2, norm_first=False)(torch.randn(2, 3, 8) * 9)
    torch.testing.assert_close(out.mean(-1), torch.zeros(2, 3), atol=1e-5, rtol=0)


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match="does not divide among the heads"):
        Attention(8, 3)


def test_mlp_widths():
    assert MLP(4, 16)(torch.zeros(2, 4)).shape == (2, 4)
