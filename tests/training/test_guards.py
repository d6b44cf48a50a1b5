"""Each guard is tripped by the fault it is for, and names the cause and the sample."""

import dataclasses

import pytest
import torch
from torch import nn

from facemllm.core.errors import ConfigError, TrainingError
from facemllm.data import FaceSample
from facemllm.language import load_language_model
from facemllm.model import FaceMLLM
from facemllm.processing.template import IGNORE
from facemllm.training import ThreeStageRecipe, Trainer, select
from facemllm.training.crops import CropSet
from facemllm.training.features import FeatureSet
from facemllm.training.guards import GRADIENT_STEPS, Guards
from facemllm.training.label_order import check_label_order
from facemllm.training.loop import run_steps
from facemllm.training.parallel import Processes
from facemllm.training.progress import RunLog
from facemllm.training.questions import StageData
from facemllm.training.stage_run import StageLoss, _check_heads, stage_data, stage_guards

FACES = tuple(f"stages.{index}.data=[{{dataset: utkface, split: all}}]" for index in range(4))


def stage(**options):
    base = ThreeStageRecipe.load("tiny").stages[1].model_dump() | {"steps": 2, "batch_size": 6}
    base |= {
        "data": ({"dataset": "fer2013"},),
        "tasks": ("expression", "age"),
        "feature_dropout": 0.0,
        "questions_per_image": 1,
    }
    return type(ThreeStageRecipe.load("tiny").stages[0]).model_validate(base | options)


@pytest.fixture
def data(small_model):
    torch.manual_seed(0)
    samples = tuple(
        FaceSample(
            id=f"face-{i}", image="x", labels={"expression": "happy", "age": 20 + i}, dataset="d", licence="t"
        )
        for i in range(4)
    )
    features = torch.randn(4, 1, 16, small_model.encoder.embed_dim).half()
    source = FeatureSet(CropSet("d", samples, None), features, torch.zeros(4, 1, dtype=torch.bool))
    return StageData([source], [1.0], stage(), small_model.checked_processor(), seed=0)


@pytest.fixture
def train(small_model, data, tmp_path):
    """Train a part of the small model for some steps, with whatever is drawn changed before."""

    def run(change=lambda pairs: pairs, part="connector", steps=2, lr=1e-3):
        small_model.train()
        for name, parameter in small_model.named_parameters():
            parameter.requires_grad_(name.startswith(part))
        of_part = [p for name, p in small_model.named_parameters() if name.startswith(part)]
        guards = stage_guards(small_model)
        loss = StageLoss(small_model, data, stage(), 0, Processes(), guards)
        loss.drawn = lambda step: [change(pairs) for pairs in data.draw(step)]
        groups = [{"params": of_part, "lr": lr, "part": part}]
        run_steps(
            small_model, loss, name="stage", groups=groups, steps=steps,
            folder=tmp_path / "checkpoint", log=RunLog(tmp_path / "log.jsonl"), seed=0, progress=False,
            shared=True, guards=guards,
        )  # fmt: skip

    return run


def changed(pairs, **options):
    return dataclasses.replace(pairs, **options)


def first_encoded(pairs, **options):
    encoded = dataclasses.replace(pairs.encoded[0], **options)
    return changed(pairs, encoded=(encoded, *pairs.encoded[1:]))


def test_a_whole_batch_passes_all_guards(train):
    train()


def test_a_masked_out_answer(train):
    def mask(pairs):
        return first_encoded(pairs, labels=[IGNORE] * len(pairs.encoded[0]))

    with pytest.raises(TrainingError, match=r"an answer is masked out\n.*sample 'face-\d', pair 1"):
        train(mask)


def test_truncated_image_tokens(train):
    def cut(pairs):
        first = pairs.encoded[0].image_mask.index(True)
        return first_encoded(
            pairs,
            **{
                key: (lambda values: values[:first] + values[first + 2 :])(getattr(pairs.encoded[0], key))
                for key in ("input_ids", "labels", "image_mask")
            },
        )

    with pytest.raises(TrainingError, match=r"image tokens are truncated\n.*'face-\d'.*14 image tokens"):
        train(cut)


def test_a_chat_that_is_longer_than_the_model_reads(small_model, data):
    guards = Guards(image_tokens=small_model.config.image_tokens, longest=20)
    with pytest.raises(TrainingError, match=r"longer than the language model reads\n.*face-"):
        guards.batch(data.draw(0))


def test_a_picture_that_is_not_finite(train):
    def broken(pairs):
        picture = pairs.picture.clone()
        picture[0, 0] = float("nan") if pairs.sample == "face-2" else picture[0, 0]
        return changed(pairs, picture=picture)

    with pytest.raises(TrainingError, match=r"a picture is not finite\n.*sample 'face-2': 1 of"):
        train(broken, steps=8)


def test_a_loss_that_is_not_finite_names_the_sample(train, small_model):
    def bright(pairs):
        return changed(pairs, picture=pairs.picture * (1000 if pairs.sample == "face-1" else 1))

    inner = small_model.connector.forward

    def fragile(features):
        largest = features.abs().amax((1, 2), keepdim=True)
        return inner(features) * torch.where(largest > 100, torch.nan, 1.0)

    small_model.connector.forward = fragile
    with pytest.raises(TrainingError, match=r"loss is not finite\n.*of 'stage', first at sample 'face-1'"):
        train(bright, steps=8)


def test_a_gradient_that_is_not_finite(tmp_path):
    weight = nn.Linear(1, 1)

    def loss_of(model, step):
        out = model(torch.zeros(1, 1)).sum() * 0.0
        return torch.sqrt(out * out)  # zero, with a slope that is not a number

    with pytest.raises(TrainingError, match="gradient is not finite"):
        run_steps(
            weight, loss_of, name="a", groups=[{"params": list(weight.parameters()), "lr": 1.0}], steps=1,
            folder=tmp_path / "c", log=RunLog(tmp_path / "l"), seed=0, progress=False,
        )  # fmt: skip
    assert all(torch.isfinite(parameter).all() for parameter in weight.parameters())


def test_everything_frozen(small_model, tmp_path):
    small_model.requires_grad_(False)
    guards = Guards()
    groups = [{"params": list(small_model.connector.parameters()), "part": "connector"}]
    with pytest.raises(TrainingError, match=r"nothing trains\n.*every parameter is frozen"):
        guards.gradients(groups, phase="stage", step=0, last=False, processes=Processes())
    with pytest.raises(ConfigError, match="nothing to train matches 'vision_tower'"):
        select(small_model, ["vision_tower"])


def test_a_run_in_which_everything_is_frozen(small_model, data, tmp_path):
    small_model.requires_grad_(False)
    guards = stage_guards(small_model)
    loss = StageLoss(small_model, data, stage(), 0, Processes(), guards)
    groups = [{"params": list(small_model.connector.parameters()), "lr": 0.1, "part": "connector"}]
    before = small_model.connector.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    with pytest.raises(TrainingError, match="no gradient reaches 'connector'"):
        run_steps(
            small_model, loss, name="stage", groups=groups, steps=2, folder=tmp_path / "checkpoint",
            log=RunLog(tmp_path / "log.jsonl"), seed=0, progress=False, shared=True, guards=guards,
        )  # fmt: skip
    assert all(torch.equal(t, before[n]) for n, t in small_model.connector.state_dict().items())
    with pytest.raises(ConfigError, match=r"stages\.0\.train"):
        ThreeStageRecipe.load("tiny", ("stages.0.train=[]", "stages.0.lr={}"))


def test_a_part_that_gets_no_gradient(train, small_model):
    small_model.add_head("age", "age")  # the answers do not depend on it
    with pytest.raises(TrainingError, match=r"no gradient reaches 'heads'\n.*does not depend on it"):
        train(part="heads", steps=GRADIENT_STEPS)


def test_one_part_of_two_without_a_gradient_is_named(tmp_path):
    pair = nn.ModuleDict({"used": nn.Linear(2, 1), "lost": nn.Linear(2, 1)})
    groups = [{"params": list(pair[name].parameters()), "lr": 0.1, "part": name} for name in pair]

    def loss_of(model, step):
        x = torch.ones(1, 2)
        return model["used"](x).sum() + (model["lost"](x).detach().sum() if step >= 0 else 0)

    with pytest.raises(TrainingError, match=rf"no gradient reaches 'lost'\n.*{GRADIENT_STEPS} steps"):
        run_steps(
            pair, loss_of, name="a", groups=groups, steps=50, folder=tmp_path / "c",
            log=RunLog(tmp_path / "l"), seed=0, progress=False,
        )  # fmt: skip


def test_a_gate_that_starts_at_zero_is_given_time(tmp_path):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.gate = nn.Linear(2, 1), nn.Parameter(torch.zeros(1))

    model = Gated()
    groups = [
        {"params": list(model.inner.parameters()), "lr": 0.1, "part": "inner"},
        {"params": [model.gate], "lr": 0.1, "part": "gate"},
    ]
    run_steps(
        model, lambda m, step: (m.gate * m.inner(torch.ones(1, 2))).sum(), name="a", groups=groups, steps=5,
        folder=tmp_path / "c", log=RunLog(tmp_path / "l"), seed=0, progress=False,
    )  # fmt: skip


def test_features_that_have_collapsed(train, small_model):
    with torch.no_grad():
        for parameter in small_model.connector.parameters():
            parameter.zero_()
    with pytest.raises(TrainingError, match=r"features have collapsed\n.*'face-\d' and 'face-\d'"):
        train(steps=1)


def test_features_that_differ_a_little_have_not_collapsed():
    base = torch.randn(1, 16, 32)
    Guards().features(base + 1e-3 * torch.randn(5, 16, 32), list("abcde"))
    with pytest.raises(TrainingError, match="collapsed"):
        Guards().features(base + 1e-6 * torch.randn(5, 16, 32), list("abcde"))
    Guards().features(base.expand(3, -1, -1), ["a", "a", "a"])  # one picture three times


def test_a_wrong_lora_target(small_llm):
    with pytest.raises(ConfigError, match="LoRA target matches nothing: query_projection"):
        load_language_model(small_llm, lora={"target_modules": ["q_proj", "query_projection"]})


def test_a_stage_with_lora_for_a_model_without(made_faces, small_model, tmp_path):
    recipe = ThreeStageRecipe.load("tiny", (*FACES, "stages.0.train=[lora]", "stages.0.lr={lora: 0.1}"))
    with pytest.raises(ConfigError, match="nothing to train matches 'lora'"):
        Trainer(small_model, recipe, output_dir=tmp_path, data_root=made_faces, progress=False).fit()


def test_a_connector_of_the_wrong_width(small_llm):
    from facemllm.connectors import create_connector

    connector = create_connector("mlp", in_dim=128, out_dim=small_llm.embed_dim)
    with pytest.raises(ConfigError, match=r"parts do not fit together\n.*from width 128"):
        FaceMLLM.from_parts(encoder="dlib-face", connector=connector, language_model=small_llm)


def test_a_connector_that_does_not_do_what_it_says(small_model, made_faces, tmp_path):
    recipe = ThreeStageRecipe.load("tiny", FACES)
    small_model.connector.forward = lambda features: torch.zeros(len(features), 16, 7)
    with pytest.raises(TrainingError, match=r"does not fit\n.*\(1, 16, 7\) for .*\n.*\(1, 16, 48\)"):
        Trainer(small_model, recipe, output_dir=tmp_path, data_root=made_faces, progress=False).fit()


def test_labels_in_a_mixed_up_order(small_model, monkeypatch, tmp_path):
    """A head that is right, but whose classes are listed in another order than it was trained with."""
    torch.manual_seed(0)
    classes = ["neutral", "happy", "sad"]
    directions = torch.eye(3, small_model.encoder.embed_dim)
    true = [index % 3 for index in range(90)]
    samples = tuple(
        FaceSample(id=str(i), image="x", labels={"expression": classes[c]}, dataset="d", licence="t")
        for i, c in enumerate(true)
    )
    noise = 0.3 * torch.randn(90, 1, 16, small_model.encoder.embed_dim)
    source = FeatureSet(
        CropSet("d", samples, None), noise + directions[true][:, None, None], torch.zeros(90, 1)
    )

    def hang(order):
        small_model.heads.clear()
        small_model.config.heads = {}
        head = small_model.add_head("expression", "classification", classes=order)
        with torch.no_grad():
            head.linear.weight.copy_(directions)
            head.linear.bias.zero_()

    hang(classes)
    _check_heads(small_model, [source])
    hang(["happy", "neutral", "sad"])
    with pytest.raises(TrainingError, match=r"mixed-up order\n.*its 'happy' is the dataset's 'neutral'"):
        _check_heads(small_model, [source])
    # A stage looks before it begins.
    trainer = Trainer(small_model, ThreeStageRecipe.load("tiny"), output_dir=tmp_path, progress=False)
    monkeypatch.setattr(trainer, "pictures", lambda *_: source)
    with pytest.raises(TrainingError, match="mixed-up order"):
        stage_data(trainer, stage(), small_model, trains_encoder=False)


def test_a_head_that_knows_nothing_is_not_taken_for_a_mixed_up_one():
    import random

    rng = random.Random(0)
    for _ in range(200):
        true = rng.choices(["a", "b", "c"], [6, 3, 1], k=60)
        check_label_order("task", rng.choices(["a", "b", "c"], k=60), true)
        check_label_order("task", ["b"] * 60, true)
    check_label_order("task", ["b", "a"] * 10, ["a", "b"] * 10)  # too few to say


def test_the_loss_of_a_phase_without_guards_is_looked_at_too(tmp_path):
    layer = nn.Linear(1, 1)
    with pytest.raises(TrainingError, match="loss is not finite"):
        run_steps(
            layer, lambda m, s: m(torch.full((1, 1), float("inf"))).sum(), name="encoder",
            groups=[{"params": list(layer.parameters()), "lr": 1.0}], steps=1, folder=tmp_path / "c",
            log=RunLog(tmp_path / "l"), seed=0, progress=False,
        )  # fmt: skip
