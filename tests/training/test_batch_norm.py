"""Batch norm that is only there while a network of convolutions trains."""

import copy

import pytest
import torch
from torch import nn

from facemllm.core.errors import ConfigError
from facemllm.encoders import create_encoder
from facemllm.training.batch_norm import NormedConv, add_batch_norm, fold_batch_norm, share_statistics


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return create_encoder("dlib-face", image_size=64, stages=4).double().eval()


@pytest.fixture
def images():
    return torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()


def test_putting_it_in_changes_nothing(encoder, images):
    with torch.no_grad():
        before = encoder(images)
        add_batch_norm(encoder, images)
        encoder.double()
        for features in (encoder.eval()(images), encoder.train()(images)):
            torch.testing.assert_close(features, before, rtol=1e-3, atol=1e-4)


def test_after_training_the_folded_network_is_the_normed_one(encoder, images):
    names = set(encoder.state_dict())
    add_batch_norm(encoder, images)
    encoder.double()
    optimizer = torch.optim.SGD(encoder.train().parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        encoder(images + torch.randn_like(images)).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        other = encoder.train()(images[:2])  # before: it moves the running statistics
        normed = encoder.eval()(images)
        fold_batch_norm(encoder.eval())
        torch.testing.assert_close(encoder(images), normed, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(encoder(images[:2]), other, rtol=1e-3, atol=1e-4)  # statistics do matter
    assert set(encoder.state_dict()) == names
    assert not any(isinstance(module, NormedConv) for module in encoder.modules())


@pytest.mark.parametrize(
    "network", [nn.Linear(3, 3), nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))], ids=["none", "normed"]
)
def test_networks_it_cannot_help_are_refused(network):
    with pytest.raises(ConfigError, match="batch norm"):
        add_batch_norm(network, torch.zeros(1, 3, 8, 8))


def test_statistics_of_all_processes_are_those_of_torch_where_there_is_one(encoder, images):
    """What is added up over processes, in one process: the same output, gradient and running statistics."""
    add_batch_norm(encoder, images)
    other = copy.deepcopy(encoder.double())
    calls = []
    share_statistics(other, lambda part: calls.append(part) or part)
    for network in (encoder, other):
        network.train()(images * 1.5).square().mean().backward()
    assert calls
    for (name, one), two in zip(encoder.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, msg=name)
    for one, two in zip(encoder.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)
    share_statistics(other, None)
    calls.clear()
    other(images)
    assert not calls
