"""Sizes counted on meta tensors are those of real ones, and move as they should."""

import copy

import pytest
import torch

from facemllm.language import load_language_model
from facemllm.model import FaceMLLM
from facemllm.training import Stage, ThreeStageRecipe, build_on_meta, select
from facemllm.training.sizing import kept_for_backward, rows_of, size_stage

HALVED = ("encoder", "connector", "language_model")


def stage(*train, **changes):
    values = {"name": "s", "train": train, "lr": dict.fromkeys(train, 0.1), "ask": "all", "steps": 1,
              "batch_size": 8, "questions_per_image": 4, "data": [{"dataset": "a"}]}  # fmt: skip
    return Stage.model_validate(values | changes)


@pytest.fixture
def adapted(small_llm):
    llm = load_language_model(small_llm, lora={"r": 2, "dropout": 0.0})
    return FaceMLLM.from_parts(encoder="dlib-face", language_model=llm)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("train", [("connector",), ("connector", "lora"), ("encoder", "connector")])
def test_what_is_kept_on_meta_is_what_is_kept_in_memory(adapted, train, checkpointing):
    select(adapted, train)
    there = copy.deepcopy(adapted).to("meta")
    real, counted = (
        kept_for_backward(model, 2, 40, 6, checkpointing=checkpointing) for model in (adapted, there)
    )
    assert counted == real > 0


def test_it_leaves_the_model_as_it_was(adapted):
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    attention = adapted.language_model.config._attn_implementation
    kept_for_backward(adapted, 1, 30, 4)
    assert not adapted.training
    assert adapted.language_model.config._attn_implementation == attention
    assert all(torch.equal(before[name], tensor) for name, tensor in adapted.state_dict().items())


def test_activations_grow_with_faces_and_shrink_by_checkpointing_and_freezing(adapted):
    model = adapted.to("meta")
    select(model, ["encoder", "connector", "lora"])
    once, twice = (kept_for_backward(model, faces, 40, 6) for faces in (2, 4))
    assert 1.9 < twice / once <= 2.0  # positions are kept once for all faces
    assert kept_for_backward(model, 2, 40, 6, checkpointing=True) < once
    select(model, ["connector", "lora"])
    assert kept_for_backward(model, 2, 40, 6) < once


def test_weights_gradients_and_moments_are_counted(adapted):
    size = size_stage(adapted.to("meta"), stage("connector", "lora"))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert (size.trained, size.gradients, size.optimizer) == (trained, 4 * trained, 8 * trained)
    assert size.weights == 4 * size.parameters
    halved = size_stage(adapted, stage("connector", "lora", precision=dict.fromkeys(HALVED, "bfloat16")))
    assert halved.weights == 2 * (size.parameters - trained) + 6 * trained
    assert size.ddp() == size.weights + size.gradients + size.optimizer + size.activations
    assert size.fsdp(64) < size.fsdp(2)


def test_shares_of_a_batch():
    assert rows_of(stage("connector", batch_size=64), 10, 1)[0] == 16
    assert rows_of(stage("connector", batch_size=64), 10, 8)[0] == 2
    assert rows_of(stage("connector", ask="captions"), 10, 1)[0] == 8


def test_operations_of_a_7b_model_are_about_four_a_weight_and_token():
    """A frozen model costs 2 forward and 2 backward, a trained one 2 more; attention and head add little."""
    recipe = ThreeStageRecipe.load("llava15-7b")
    model = build_on_meta(recipe)
    size = size_stage(model, recipe.stages[1], devices=8)
    weights = 6.74e9 - 2 * 32000 * 4096
    assert 4.0 < (size.operations - 2 * 320e6 * size.tokens) / (weights * size.tokens) < 4.6
