"""The contract of connectors, over the registry."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from facemllm.connectors import CONNECTORS, Connector, create_connector
from facemllm.core.errors import ConfigError, RegistryError

SMALL = {
    "mlp": {},
    "qformer": {"num_queries": 5, "width": 16, "layers": 3, "heads": 2},
    "resampler": {"num_queries": 5, "layers": 2, "heads": 2},
}


def small(name: str) -> Connector:
    torch.manual_seed(0)
    return create_connector(name, in_dim=8, out_dim=6, **SMALL[name])


@pytest.mark.parametrize("name", SMALL)
def test_shape_is_as_announced(name):
    connector = small(name)
    assert connector(torch.randn(2, 9, 8)).shape == (2, connector.num_output_tokens(9), 6)


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_all_weights_and_the_features(name):
    connector, features = small(name), torch.randn(2, 9, 8, requires_grad=True)
    out = connector(features)
    (out * torch.randn_like(out)).sum().backward()
    assert [
        name for name, p in connector.named_parameters() if p.grad is None or not p.grad.abs().max() > 0
    ] == []
    assert (features.grad.abs().amax(-1) > 0).all()


@pytest.mark.parametrize("name", SMALL)
def test_spec_builds_it_again(name):
    connector = small(name)
    again = create_connector(**json.loads(json.dumps(connector.spec)))
    again.load_state_dict(connector.state_dict())
    features = torch.randn(2, 9, 8)
    assert torch.equal(again(features), connector(features))


@pytest.mark.parametrize("name", SMALL)
def test_items_of_a_batch_are_independent(name):
    connector, features = small(name), torch.randn(2, 9, 8)
    torch.testing.assert_close(connector(features)[1:], connector(features[1:]))


def test_all_connectors_are_tested():
    assert set(SMALL) == set(CONNECTORS.names())


@pytest.mark.parametrize("name", ["qformer", "resampler"])
def test_queries_do_not_depend_on_the_order_of_features(name):
    connector, features = small(name), torch.randn(1, 9, 8)
    torch.testing.assert_close(connector(features.flip(1)), connector(features))


def test_mlp_is_that_of_llava():
    connector = small("mlp")
    llava = nn.Sequential(nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 6))
    llava[0].load_state_dict(connector.mlp.linear_1.state_dict())
    llava[2].load_state_dict(connector.mlp.linear_2.state_dict())
    features = torch.randn(2, 9, 8)
    assert torch.equal(connector(features), llava(features))
    assert sum(p.numel() for p in connector.parameters()) == sum(p.numel() for p in llava.parameters())


def test_qformer_looks_at_features_in_every_second_block():
    assert [block.cross is not None for block in small("qformer").blocks] == [True, False, True]


def test_an_instance_is_taken_as_it_is():
    connector = small("mlp")
    assert create_connector(connector, in_dim=8, out_dim=6) is connector
    with pytest.raises(ConfigError, match=r"cannot be used\n.*'in_dim': 8"):
        create_connector(connector, in_dim=9, out_dim=6)
    with pytest.raises(ConfigError, match=r"options {'heads': 2}"):
        create_connector(connector, heads=2)
    with pytest.raises(ConfigError, match="Linear with"):
        create_connector(nn.Linear(8, 6), in_dim=8, out_dim=6)


def test_wrong_names_and_options():
    with pytest.raises(RegistryError, match="unknown connector 'qformr'; did you mean qformer"):
        create_connector("qformr", in_dim=8, out_dim=6)
    with pytest.raises(ConfigError, match="unexpected keyword argument 'queries'"):
        create_connector("qformer", in_dim=8, out_dim=6, queries=3)
    with pytest.raises(ConfigError, match="in_dim and out_dim are needed"):
        create_connector("mlp", in_dim=8)
