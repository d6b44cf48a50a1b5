"""Batches of a stage: the same pairs whatever the grouping, and only the tasks a source may be asked."""

import pytest
import torch

from facemllm.data import FaceSample
from facemllm.training import Stage
from facemllm.training.crops import CropSet
from facemllm.training.features import FeatureSet
from facemllm.training.losses import answer_loss, answer_tokens, joint_loss
from facemllm.training.questions import StageData, mirror

POSE = {"pose": {"pan": 30.0, "tilt": 15.0}}


def source(dataset, labels):
    sample = FaceSample(id=dataset, image="x.jpg", labels=labels, dataset=dataset, licence="t")
    features = torch.randn(1, 1, 16, 256, generator=torch.Generator().manual_seed(1))
    return FeatureSet(CropSet(dataset, (sample,), None), features, torch.zeros(1, 1, dtype=torch.bool))


def stage(**changes):
    values = {
        "name": "s",
        "train": ("connector",),
        "lr": {"connector": 0.1},
        "ask": "all",
        "steps": 1,
        "batch_size": 24,
        "tasks": ("age", "gender", "ethnicity"),
        "data": [{"dataset": "a"}],
    }
    return Stage.model_validate(values | changes)


@pytest.fixture
def faces():
    return source("a", {"age": 34.0, "gender": "female", "ethnicity": "white"})


def draw(model, face, step=0, **changes):
    return StageData([face], [1.0], stage(**changes), model.processor, 0).batches(step)


def test_groups_of_like_length_give_the_loss_and_gradient_of_one_batch(small_model, faces):
    model = small_model.double()
    results = []
    for groups in (1, 4):
        batches = draw(model, faces, step=3, length_groups=groups)
        assert len(batches) == groups
        losses = [
            answer_loss(
                model(
                    input_ids=batch.input_ids,
                    attention_mask=batch.attention_mask,
                    encoder_features=batch.images["encoder_features"].double(),
                ).logits,
                batch.labels,
            )
            for batch in batches
        ]
        loss = joint_loss(losses, [answer_tokens(batch.labels) for batch in batches])
        (gradient,) = torch.autograd.grad(loss, [model.connector.mlp.linear_1.weight])
        results.append((sorted(name for b in batches for name in b.tasks), loss.item(), gradient))
    (tasks, loss, gradient), (grouped_tasks, grouped_loss, grouped_gradient) = results
    assert tasks == grouped_tasks
    assert loss == pytest.approx(grouped_loss, rel=1e-5)
    assert torch.allclose(gradient, grouped_gradient, rtol=1e-3, atol=1e-6)


def test_grouping_saves_padding(small_model, faces):
    one, four = (
        sum(batch.input_ids.numel() for batch in draw(small_model, faces, length_groups=n)) for n in (1, 4)
    )
    assert four < one


def asked(batches):
    return {task for batch in batches for task in batch.tasks}


def test_a_source_is_asked_its_own_tasks_only(small_model, faces):
    options = {"unknown": 0.0, "descriptions": 0.0, "batch_size": 60}
    limited = draw(small_model, faces, data=[{"dataset": "a", "tasks": ["age"]}], **options)
    assert asked(limited) <= {"age", "yes_no", "choice", "true_false"}
    assert "gender" in asked(draw(small_model, faces, **options))


def test_a_step_has_the_same_batch_every_time(small_model, faces):
    first, second, other = (
        [b.input_ids.tolist() for b in draw(small_model, faces, step)] for step in (7, 7, 8)
    )
    assert first == second
    assert first != other


def test_a_mirror_image_looks_the_other_way():
    sample = FaceSample(
        id="1", image="x", labels={"pose": {"pan": 30.0, "tilt": 15.0}}, dataset="d", licence="t"
    )
    assert mirror(sample, True).labels["pose"] == {"pan": -30.0, "tilt": 15.0}
    assert mirror(sample, False) is sample
