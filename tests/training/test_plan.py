"""What is said before a stage is what the stage does."""

import pytest
import torch

from facemllm.core.errors import ConfigError
from facemllm.language import apply_lora
from facemllm.training import ThreeStageRecipe, select
from facemllm.training.groups import layer_scales, parameter_groups
from facemllm.training.loop import _clip
from facemllm.training.plan import Part, Plan, measured, parts_of
from facemllm.training.recipe import Stage


def stage(**options):
    base = ThreeStageRecipe.load("tiny").stages[1].model_dump()
    return Stage.model_validate(base | options)


def test_the_table_counts_every_parameter_once(small_model):
    chosen = stage(
        train=("connector", "language_model"), lr={"connector": 0.1, "language_model": 0.2},
        weight_decay={"connector": 0.0, "language_model": 0.3}, layer_decay={"language_model": 0.5}, clip=2.0,
    )  # fmt: skip
    selection = select(small_model, chosen.train)
    groups = parameter_groups(small_model, selection, chosen)
    parts = parts_of(small_model, selection, chosen, groups)
    assert sum(part.parameters for part in parts) == sum(p.numel() for p in small_model.parameters())
    assert [(part.name, part.trains) for part in parts] == [
        ("connector", True), ("language_model", True), ("encoder", False),
    ]  # fmt: skip
    assert sum(part.parameters for part in parts if part.trains) == sum(
        p.numel() for p in small_model.parameters() if p.requires_grad
    )
    rows = Plan(parts, chosen.clip, 300, {}, 2.0).rows()
    assert rows[0][5:] == ("0.1", "0", "", "2", "float32")
    assert rows[1][5:] == ("0.025 to 0.2", "0.3", "0.5", "2", "float32")
    assert rows[2][1] == "frozen"
    assert "300 steps of 2 s, 10 min in all" in Plan(parts, 1.0, 300, {}, 2.0).estimates()


def test_adapters_are_a_part_of_their_own(small_llm):
    model, _ = apply_lora(small_llm.model, {"r": 2})
    wrapped = torch.nn.ModuleDict({"language_model": model, "connector": torch.nn.Linear(2, 2)})
    selection = select(wrapped, ["connector"])
    chosen = stage(train=("connector",), lr={"connector": 1})
    parts = parts_of(wrapped, selection, chosen, [{"part": "connector", "lr": 1.0}])
    names = [part.name for part in parts]
    assert names == ["connector", "lora", "language_model"]


def test_the_optimiser_gets_what_the_stage_says(small_model):
    chosen = stage(
        train=("connector", "language_model"), lr={"connector": 0.1, "language_model": 0.2},
        weight_decay={"connector": 0.0, "language_model": 0.3}, layer_decay={"language_model": 0.5},
    )  # fmt: skip
    selection = select(small_model, chosen.train)
    groups = parameter_groups(small_model, selection, chosen)
    names = {id(parameter): name for name, parameter in small_model.named_parameters()}
    rate = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert len(rate) == sum(len(names) for names in selection.names.values())
    assert rate["language_model.model.layers.1.mlp.up_proj.weight"] == (0.1, 0.3)
    assert rate["language_model.model.layers.0.mlp.up_proj.weight"] == (0.05, 0.3)
    assert rate["language_model.model.embed_tokens.weight"] == (0.025, 0.3)
    assert rate["language_model.model.norm.weight"] == (0.2, 0.3)
    assert {value for name, value in rate.items() if name.startswith("connector")} == {(0.1, 0.0)}


def test_a_layer_decay_that_matches_no_layer_is_an_error(small_model):
    chosen = stage(train=("connector",), lr={"connector": 0.1}, layer_decay={"connector": 0.9})
    selection = select(small_model, chosen.train)
    with pytest.raises(ConfigError, match="layer decay of 'connector' matches no layer"):
        parameter_groups(small_model, selection, chosen)
    assert layer_scales(["connector.fc.weight"], 0.5) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": {"connector": 0.1}}, "weight_decay must be a number or name the same parts"),
        ({"clip": {"encoder": 1.0}}, "clip must be a number or name the same parts"),
        ({"clip": {"connector": 0.0}}, "largest norm of a gradient is above zero"),
        ({"clip": -1.0}, "largest norm of a gradient is above zero"),
        ({"layer_decay": {"encoder": 0.9}}, "layer_decay names what does not train"),
        ({"layer_decay": {"connector": 1.5}}, "above zero and at most one"),
    ],
)
def test_options_for_what_does_not_train_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        stage(**options)


def test_each_part_is_clipped_for_itself():
    pair = torch.nn.ModuleDict({name: torch.nn.Linear(1, 1, bias=False) for name in ("steep", "flat")})

    def gradients(clip):
        for name, layer in pair.items():
            layer.weight.grad = torch.full((1, 1), {"steep": 30.0, "flat": 0.4}[name])
        groups = [{"params": [layer.weight], "part": name} for name, layer in pair.items()]
        norm = _clip(groups, clip)
        return norm, {name: float(layer.weight.grad) for name, layer in pair.items()}

    norm, each = gradients({"steep": 3.0, "flat": 0.5})
    assert norm == pytest.approx((30.0**2 + 0.4**2) ** 0.5)
    assert each == pytest.approx({"steep": 3.0, "flat": 0.4}, rel=1e-5)
    norm, together = gradients(3.0)
    assert norm == pytest.approx((30.0**2 + 0.4**2) ** 0.5)
    assert together == pytest.approx({"steep": 3.0, "flat": 0.04}, rel=1e-2)
    chosen = stage(train=("connector",), lr={"connector": 1}, clip={"connector": 0.25})
    parts = (Part("connector", True, 1, 2), Part("encoder", False, 1, 2))
    rows = Plan(parts, chosen.clip, 1, {}).rows()
    assert [row[-2] for row in rows] == ["0.25", ""]


def test_measuring_changes_nothing_and_counts_what_is_kept():
    """The sum of what autograd keeps for a known network, scaled from a part of the batch to all of it."""
    from facemllm.processing.template import IGNORE, Encoded
    from facemllm.training.batches import Pairs

    network = torch.nn.Sequential(torch.nn.Linear(1000, 1000), torch.nn.BatchNorm1d(1000), torch.nn.Sigmoid())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pair = Encoded([1, 2], [IGNORE, 2], [True, False])
    drawn = [Pairs(f"{i}", torch.randn(1000), (pair,), ("age",)) for i in range(512)]
    torch.manual_seed(5)

    def loss(share):
        torch.rand(1)
        return network(torch.stack([pairs.picture for pairs in share.pairs])).sum()

    groups = [{"params": list(network.parameters()), "part": "all"}]
    plan = measured(Plan((), 1.0, 1, {}), network, drawn, loss, groups)
    if plan.memory:  # where memory can be told
        weights = 4 * sum(parameter.numel() for parameter in network.parameters())
        assert plan.memory["gradients"] == weights
        assert plan.memory["Adam"] == 2 * weights
        # Kept: input, what is normalised, what the sigmoid gave; and once more the biggest.
        assert plan.memory["activations"] == pytest.approx(4 * 512 * 1000 * 4, rel=0.02)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    first = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(first, torch.rand(3))
