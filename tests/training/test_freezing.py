import pytest
import torch
from torch import nn

from facemllm.core.errors import ConfigError, TrainingError
from facemllm.training.freezing import fingerprints, select, verify


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(2, 2)
        self.connector = nn.Linear(2, 2)


def test_only_the_selected_parts_train_and_counts_are_told():
    model = Parts()
    selection = select(model, ["connector"])
    assert selection.table(model) == [("connector", 2, 6)]
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [
        "connector.weight",
        "connector.bias",
    ]


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(ConfigError, match="nothing to train matches 'lora'"):
        select(Parts(), ["lora"])


def test_what_moved_is_told():
    model = Parts()
    selection = select(model, ["connector"])
    before = fingerprints(model)
    with torch.no_grad():
        model.connector.weight += 1
    movement = verify(before, model, selection)
    assert movement.moved == ("connector.weight",)
    assert "encoder.weight" in movement.still


def test_a_frozen_tensor_that_moved_is_an_error():
    model = Parts()
    selection = select(model, ["connector"])
    before = fingerprints(model)
    with torch.no_grad():
        model.connector.weight += 1
        model.encoder.bias += 1
    with pytest.raises(TrainingError, match="a frozen tensor changed"):
        verify(before, model, selection)


def test_a_part_that_should_train_and_did_not_is_an_error():
    model = Parts()
    selection = select(model, ["connector"])
    with pytest.raises(TrainingError, match="'connector' was to train and did not change"):
        verify(fingerprints(model), model, selection)
