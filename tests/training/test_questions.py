"""Batches of a stage: packs equal padded rows, and a source is asked only what it may be asked."""

from types import SimpleNamespace

import pytest
import torch

from facemllm.data import FaceSample
from facemllm.heads import create_head
from facemllm.ops import PrefixTree
from facemllm.training import Stage
from facemllm.training.crops import CropSet
from facemllm.training.estimates import Estimates
from facemllm.training.features import FeatureSet
from facemllm.training.losses import answer_loss
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


def draw(model, face, step=0, packs=True, **changes):
    return StageData([face], [1.0], stage(**changes), model.processor, 0).batch(step, packs=packs)


def loss_and_gradients(model, batch):
    features = batch.inputs["encoder_features"].to(next(model.parameters()).dtype)
    logits = model(**{**batch.inputs, "encoder_features": features}).logits
    loss = answer_loss(logits.flatten(0, 1)[batch.predictors], batch.targets)
    parts = [model.connector, model.language_model]
    parameters = [parameter for part in parts for parameter in part.parameters()]
    return loss.item(), torch.autograd.grad(loss, parameters)


@pytest.mark.parametrize("questions", [1, 3])
def test_a_pack_gives_the_loss_and_gradients_of_separate_rows(small_model, faces, questions):
    model = small_model.double()
    pack, rows = (
        draw(model, faces, step=3, packs=packs, questions_per_image=questions) for packs in (True, False)
    )
    assert pack.tasks == rows.tasks
    assert pack.targets.tolist() == rows.targets.tolist()
    assert pack.pairs.tolist() == rows.pairs.tolist()
    (loss, gradients), (expected, expected_gradients) = (
        loss_and_gradients(model, batch) for batch in (pack, rows)
    )
    assert loss == pytest.approx(expected, rel=1e-9)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        assert torch.allclose(gradient, other, rtol=1e-5, atol=1e-9)


def test_a_wrong_tree_would_be_seen(small_model, faces):
    """The comparison above fails where a branch sees its neighbour."""
    model = small_model.double()
    batch = draw(model, faces, step=3, questions_per_image=3)
    right = loss_and_gradients(model, batch)[0]
    tree = batch.inputs["tree"]
    batch.inputs["tree"] = PrefixTree((tree.length,), ((),))
    assert loss_and_gradients(model, batch)[0] != pytest.approx(right, rel=1e-3)


def test_a_pack_reads_each_picture_once_and_has_no_padding(small_model, faces):
    pack, rows = (draw(small_model, faces, packs=packs, questions_per_image=3) for packs in (True, False))
    assert pack.inputs["input_ids"].numel() < int(rows.inputs["attention_mask"].sum())
    assert len(pack.inputs["encoder_features"]) < len(pack.tasks) == len(rows.inputs["encoder_features"])


def test_a_source_is_asked_its_own_tasks_only(small_model, faces):
    options = {"unknown": 0.0, "descriptions": 0.0, "batch_size": 60}
    limited = draw(small_model, faces, data=[{"dataset": "a", "tasks": ["age"]}], **options)
    assert set(limited.tasks) <= {"age", "yes_no", "choice", "true_false"}
    assert "gender" in draw(small_model, faces, **options).tasks


def test_a_task_with_a_weight_is_asked_about_more_often(small_model, faces):
    options = {"unknown": 0.0, "descriptions": 0.0, "batch_size": 100}
    alike = draw(small_model, faces, **options).tasks
    weighted = draw(small_model, faces, task_weights={"gender": 8.0}, **options).tasks
    assert weighted.count("gender") > 1.5 * alike.count("gender") > 0


def test_of_a_blend_the_head_says_what_it_shows():
    """Two faces between which the head changes its mind: each blend is answered as the head answers it."""
    features = torch.zeros(2, 1, 1, 4)
    features[1, ..., 0] = 1.0
    samples = tuple(
        FaceSample(id=f"{i}", image="x", labels={"gender": gender, "age": 30.0}, dataset="a", licence="t")
        for i, gender in enumerate(("female", "male"))
    )
    source = FeatureSet(CropSet("a", samples, None), features, torch.zeros(2, 1, dtype=torch.bool))
    head = create_head("classification", in_dim=4, classes=["female", "male"])
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.weight[1, 0] = 1.0
        head.linear.bias.copy_(torch.tensor([0.25, 0.0]))  # male from a quarter of the second face on
    processor = SimpleNamespace(encode_qa=lambda question, answer: (question, answer))
    options = {"tasks": ("gender",), "unknown": 0.0, "descriptions": 0.0, "questions_per_image": 1}
    blends = StageData(
        [source], [1.0], stage(taught=1.0, mixed=1.0, **options), processor, 0, Estimates({"gender": head})
    )
    drawn = [pairs for step in range(4) for pairs in blends.draw(step)]
    shares = [float(pairs.picture[0, 0]) for pairs in drawn]
    assert any(0 < share < 0.25 for share in shares)
    assert any(0.25 < share < 1 for share in shares)
    for pairs, share in zip(drawn, shares, strict=True):
        if pairs.tasks == ("gender",):
            said = pairs.encoded[0][1].lower()
            assert ("female" in said or "woman" in said) == (share < 0.25), (said, share)


def test_soft_targets_stand_where_open_answers_begin_in_packs_and_in_rows(small_model, faces):
    heads = {"gender": create_head("classification", in_dim=256, classes=["female", "male"])}
    options = {"taught": 1.0, "soft_targets": True, "tasks": ("gender", "age"), "questions_per_image": 3}
    data = StageData([faces], [1.0], stage(**options), small_model.processor, 0, Estimates(heads))
    pack, rows = data.batch(0), data.batch(0, packs=False)
    assert pack.soft == rows.soft != {}
    shares = heads["gender"](faces.features[0]).softmax(-1)[0].tolist()
    for place, target in pack.soft.items():
        pair = int(pack.pairs[place])
        assert pack.tasks[pair] == "gender"  # age has no head here, and choices are put otherwise
        assert place == 0 or int(pack.pairs[place - 1]) == pair - 1
        assert sorted(target.values()) == pytest.approx(sorted(shares))
        assert target[int(pack.targets[place])] == max(target.values())  # the likeliest is what is written
    assert len(pack.soft) == pack.tasks.count("gender")
    hard = StageData(
        [faces], [1.0], stage(**options | {"soft_targets": False}), small_model.processor, 0, Estimates(heads)
    )
    assert hard.batch(0).soft == {}


def test_a_step_has_the_same_batch_every_time(small_model, faces):
    first, second, other = (draw(small_model, faces, step).inputs["input_ids"].tolist() for step in (7, 7, 8))
    assert first == second
    assert first != other


def test_a_mirror_image_looks_the_other_way():
    sample = FaceSample(
        id="1", image="x", labels={"pose": {"pan": 30.0, "tilt": 15.0}}, dataset="d", licence="t"
    )
    assert mirror(sample, True).labels["pose"] == {"pan": -30.0, "tilt": 15.0}
    assert mirror(sample, False) is sample
