import json
import math

import pytest
import torch
from torch import nn

from facemllm.core.errors import ConfigError, RegistryError
from facemllm.heads import create_head, geodesic_distance, rotation_matrix

NAN = float("nan")
ROTATIONS = rotation_matrix(*torch.tensor([[20.0, -40, 0, 70], [5.0, 30, -60, 0], [10.0, -20, 45, 0]]))
# name, options, labels of four images, the same with the second and third missing
HEADS = [
    ("classification", {"classes": ["a", "b", "c"]}, torch.tensor([0, 2, 1, 1]), -100),
    ("age", {}, torch.tensor([4.0, 30, 61, 100]), NAN),
    ("age", {"max_age": 60}, torch.tensor([[4.0, 4], [20, 29], [0, 2], [50, 59]]), NAN),
    ("angles", {}, torch.tensor([[20.0, 5], [-40, 30], [0, -60], [70, 0]]), NAN),
    ("rotation", {}, ROTATIONS, NAN),
    ("multilabel", {"labels": ["x", "y"]}, torch.tensor([[1.0, 0], [0, 1], [1, 1], [0, 0]]), NAN),
    ("embedding", {"size": 3}, torch.eye(4)[:, :3] + 0.1, NAN),
]
IDS = [f"{name}{index}" for index, (name, *_) in enumerate(HEADS)]
every_head = pytest.mark.parametrize(("name", "options", "labels", "missing"), HEADS, ids=IDS)


@every_head
def test_each_head_learns_four_images_by_heart(name, options, labels, missing):
    torch.manual_seed(0)
    head = create_head(name, in_dim=16, **options)
    features = torch.randn(4, 3, 16) + torch.randn(4, 1, 16) * 2
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    first = None
    for _ in range(150):
        loss = head.loss(head(features), labels)
        first = first if first is not None else loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert math.isfinite(first)
    floor = {"age0": 1.5}.get(f"{name}{labels.ndim - 1}", 0.1)  # a soft target keeps its own entropy
    assert loss.item() < max(0.25 * first, floor)


@every_head
def test_missing_labels_change_neither_loss_nor_gradient(name, options, labels, missing):
    torch.manual_seed(0)
    head = create_head(name, in_dim=8, **options)
    features = torch.randn(4, 3, 8)
    some = labels.clone()
    some[1:3] = missing
    gradients = []
    for rows, wanted in ((features, some), (features[[0, 3]], labels[[0, 3]])):
        head.zero_grad()
        head.loss(head(rows), wanted).backward()
        gradients.append([p.grad.clone() for p in head.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@every_head
def test_without_any_label_the_loss_is_zero_with_a_zero_gradient(name, options, labels, missing):
    head = create_head(name, in_dim=8, **options)
    loss = head.loss(head(torch.randn(4, 3, 8)), torch.full_like(labels, missing))
    loss.backward()
    assert loss.item() == 0
    assert all((p.grad == 0).all() for p in head.parameters())


@every_head
def test_the_spec_builds_it_again(name, options, labels, missing):
    head = create_head(name, in_dim=8, dropout=0.1, **options).eval()
    again = create_head(**json.loads(json.dumps(head.spec)), in_dim=8).eval()
    again.load_state_dict(head.state_dict())
    features = torch.randn(2, 3, 8)
    answers = head.predict(head(features))
    assert answers == again.predict(again(features))
    json.dumps(answers)  # plain Python
    assert len(answers) == 2


@every_head
def test_low_precision_features_give_a_finite_loss(name, options, labels, missing):
    head = create_head(name, in_dim=8, **options).bfloat16()
    loss = head.loss(head(torch.randn(4, 3, 8, dtype=torch.bfloat16)), labels)
    assert loss.dtype == torch.float32
    assert math.isfinite(loss.item())


def test_classes_are_named():
    head = create_head("classification", in_dim=4, classes=["none", "clear", "dark"])
    assert head.predict(torch.tensor([[0.0, 2, 1], [5, 0, 0]])) == ["clear", "none"]
    torch.testing.assert_close(head.probabilities(torch.zeros(1, 3)), torch.full((1, 3), 1 / 3))


def test_a_coarse_label_allows_each_class_it_covers():
    head = create_head("classification", in_dim=4, classes=["a", "b", "c"])
    probabilities = torch.tensor([[0.5, 0.3, 0.2]])
    loss = head.loss(probabilities.log(), torch.tensor([[True, False, True]]))
    assert loss.item() == pytest.approx(-math.log(0.7))
    assert head.loss(probabilities.log(), torch.tensor([[False] * 3])).item() == 0


def test_age_is_the_expected_year():
    head = create_head("age", in_dim=4)
    outputs = torch.full((1, 101), -1e4)
    outputs[0, 20] = outputs[0, 40] = 0.0
    assert head.predict(outputs) == pytest.approx([30.0])


def test_an_age_group_asks_for_its_probability_only():
    head = create_head("age", in_dim=4)
    logs = torch.full((1, 101), -1e4)
    logs[0, 21], logs[0, 50] = math.log(0.6), math.log(0.4)
    group = torch.tensor([[20.0, 29.0]])
    moved = logs.clone()
    moved[0, [21, 28]] = moved[0, [28, 21]]
    assert head.loss(logs, group).item() == pytest.approx(-0.7 * math.log(0.6), rel=1e-4)
    torch.testing.assert_close(head.loss(moved, group), head.loss(logs, group))
    with pytest.raises(ConfigError, match="wrong order"):
        head.loss(logs, torch.tensor([[29.0, 20.0]]))


def test_rotations_are_orthonormal_and_turn_into_their_angles():
    head = create_head("rotation", in_dim=4)
    matrix = head.matrix(torch.randn(20, 6))
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).expand(20, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(20), atol=1e-5, rtol=0)
    yaw, pitch, roll = torch.tensor([[30.0, -70], [-15.0, 40], [5.0, -25]])
    outputs = rotation_matrix(yaw, pitch, roll)[..., :2].mT.flatten(
        1
    )  # its first two columns are six numbers
    for index, angles in enumerate(head.predict(outputs * 3)):
        expected = {"yaw": yaw[index].item(), "pitch": pitch[index].item(), "roll": roll[index].item()}
        assert angles == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("degrees", [0.0, 0.01, 1.0, 90.0, 179.0])
def test_geodesic_distance_is_the_angle_with_a_finite_gradient(degrees):
    zero = torch.zeros(1, dtype=torch.float64)
    turned = rotation_matrix(zero, zero + degrees, zero).requires_grad_()
    distance = geodesic_distance(turned, torch.eye(3, dtype=torch.float64)[None])
    distance.sum().backward()
    assert math.degrees(distance.item()) == pytest.approx(degrees, abs=1e-6)
    assert turned.grad.isfinite().all()


def test_several_labels_are_independent():
    head = create_head("multilabel", in_dim=4, labels=["AU1", "AU12"], threshold=0.7)
    assert head.predict(torch.tensor([[0.5, 3.0]])) == [{"AU1": False, "AU12": True}]
    loss = head.loss(torch.tensor([[2.0, 9.0]]), torch.tensor([[1.0, NAN]]))
    assert loss.item() == pytest.approx(math.log1p(math.exp(-2.0)))


def test_embeddings_have_length_one_and_follow_the_teachers_direction():
    head = create_head("embedding", in_dim=4, size=2)
    assert head.predict(torch.tensor([[3.0, 4.0]]))[0] == pytest.approx([0.6, 0.8])
    same = head.loss(torch.tensor([[3.0, 4.0]]), torch.tensor([[6.0, 8.0]]))
    opposite = head.loss(torch.tensor([[3.0, 4.0]]), torch.tensor([[-3.0, -4.0]]))
    assert (same.item(), opposite.item()) == pytest.approx((0.0, 2.0), abs=1e-6)


def test_dropout_acts_in_training_alone():
    head = create_head("embedding", in_dim=64, size=4, dropout=0.5)
    features = torch.ones(1, 2, 64)
    assert not torch.equal(head(features), head(features))
    head.eval()
    assert torch.equal(head(features), head(features))


def test_instances_pass_through_and_are_checked():
    head = create_head("rotation", in_dim=8)
    assert create_head(head, in_dim=8) is head
    with pytest.raises(ConfigError, match="cannot use this head"):
        create_head(head, in_dim=9)
    with pytest.raises(ConfigError, match="cannot use this head"):
        create_head(head, dropout=0.2)
    assert isinstance(head, nn.Module)


def test_wrong_names_and_options_are_refused():
    with pytest.raises(RegistryError, match="did you mean rotation"):
        create_head("rotatoin", in_dim=8)
    with pytest.raises(ConfigError, match="cannot build head 'age'"):
        create_head("age", in_dim=8, colour=1)
    with pytest.raises(ConfigError, match=r"no options \(.*'classes'(?s:.)*classes: (?s:.)*pass what is"):
        create_head("classification", in_dim=8)


@pytest.mark.parametrize(("head", "names"), [("classification", "classes"), ("multilabel", "labels")])
@pytest.mark.parametrize("given", [[], ["a", "a"], ["a", " "], ["a", 2], "ab"])
def test_outputs_without_a_name_of_their_own_are_refused(head, names, given):
    with pytest.raises(ConfigError, match=f"given: +{names}="):
        create_head(head, in_dim=8, **{names: given})


def test_what_can_be_no_head_of_a_model_is_refused_and_leaves_it_as_it_was(small_model):
    for name in ("forward", "keys", "training", "a.b", "", 5):
        with pytest.raises(ConfigError, match="wrong name for a head"):
            small_model.add_head(name, "age")
    with pytest.raises(ConfigError, match=r"given: +Module(?s:.)*TaskHead"):
        small_model.add_head("mine", nn.Module())
    with pytest.raises(ConfigError, match="cannot use this head"):
        small_model.add_head("mine", create_head("age", in_dim=small_model.encoder.embed_dim + 1))
    assert not small_model.heads
    assert not small_model.config.heads
