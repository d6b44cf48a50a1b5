"""Frozen parts are held in bfloat16 where a stage says so, and what trains is float32 whatever it says."""

import copy

import pytest
import torch
from safetensors import safe_open

from facemllm.core.errors import ConfigError
from facemllm.encoders import create_encoder
from facemllm.language import load_language_model
from facemllm.model import FaceMLLM
from facemllm.training import ThreeStageRecipe, Trainer, loop, select, size_stage, stage_run
from facemllm.training.checkpoints import Checkpoints
from facemllm.training.groups import parameter_groups
from facemllm.training.plan import parts_of
from facemllm.training.precision import cast, computing, hold

HALVES = "{encoder: bfloat16, connector: bfloat16, language_model: bfloat16}"
SOURCE = "[{dataset: utkface, split: all}]"


@pytest.fixture
def adapted(small_llm):
    """A model with LoRA, alike whenever it is made."""

    def make():
        torch.manual_seed(0)
        llm = load_language_model(copy.deepcopy(small_llm), lora={"r": 2, "dropout": 0.0})
        encoder = create_encoder("dlib-face", image_size=112, stages=2)
        return FaceMLLM.from_parts(encoder=encoder, language_model=llm)

    return make


def by_part(*options):
    """Return three stages: the last one trains the encoder, too."""
    loaded = ThreeStageRecipe.load(
        "tiny",
        (
            "save_dtype=float32",
            "encoder_phase=null",
            "language_phase=null",
            "stages.1.train=[connector, lora]",
            "stages.1.lr={connector: 0.01, lora: 0.01}",
            "stages.2.train=[encoder, connector, lora]",
            "stages.2.lr={encoder: 0.001, connector: 0.01, lora: 0.01}",
            *(f"stages.{i}.steps=3" for i in range(3)),
            *(f"stages.{i}.batch_size=4" for i in range(3)),
            *(f"stages.{i}.data={SOURCE}" for i in range(3)),
            *(f"stages.{i}.held_out={{data: {SOURCE}, every: 3, batches: 1}}" for i in range(3)),
            *(f"stages.{i}.precision={HALVES}" for i in range(3)),
            *options,
        ),
    )
    return loaded.model_copy(update={"stages": loaded.stages[:3]})


def dtypes(model):
    """Return the dtypes of the parameters of each part."""
    found = {}
    for name, parameter in model.named_parameters():
        part = "lora" if "lora_" in name else name.partition(".")[0]
        found.setdefault(part, set()).add(str(parameter.dtype).removeprefix("torch."))
    return {part: "/".join(sorted(kinds)) for part, kinds in found.items()}


def test_frozen_parts_are_held_in_bfloat16_and_what_trains_in_float32(
    adapted, made_faces, portrait, tmp_path
):
    held, plans, asked = [], [], []

    class Listening(Trainer):
        def say_plan(self, title, plan):
            plans.append(plan)

    def hook(model, stage):
        held.append(dtypes(model))
        asked.append(model.ask(portrait, "How old is this person?", crop="none", max_new_tokens=2).text)
        return {}

    model = Listening(
        adapted(), by_part(), output_dir=tmp_path, data_root=made_faces, progress=False, hooks=[hook]
    ).fit()
    first = {"encoder": "bfloat16", "connector": "float32", "lora": "float32", "language_model": "bfloat16"}
    assert held == [first, first, {**first, "encoder": "float32"}]
    assert len(asked) == 3
    shown = [{part.name: (part.trains, part.precision) for part in plan.parts} for plan in plans]
    of_trained = (True, "bfloat16, held in float32")
    assert shown[0] == {
        "connector": of_trained, "encoder": (False, "bfloat16"), "language_model": (False, "bfloat16"),
        "lora": (False, "bfloat16, held in float32"),
    }  # fmt: skip
    assert shown[2]["encoder"] == shown[2]["lora"] == of_trained
    assert all("of weights" in plan.estimates() for plan in plans if plan.memory)
    # What is saved and returned is one dtype, whatever it was held in.
    assert set(dtypes(model).values()) == {"float32"}
    with safe_open(tmp_path / "model" / "model.safetensors", "pt") as file:
        assert {str(file.get_tensor(key).dtype) for key in file.keys()} == {"torch.float32"}  # noqa: SIM118


def test_what_is_held_in_bfloat16_takes_half_the_memory(adapted):
    model = adapted()
    sizes = {}
    for name, precision in (("whole", "float32"), ("halves", {"language_model": "bfloat16"})):
        stage = by_part().stages[0].model_copy(update={"precision": precision})
        selection = select(model, stage.train)
        hold(model, selection, stage)
        parts = parts_of(model, selection, stage, parameter_groups(model, selection, stage))
        sizes[name] = {part.name: part.size for part in parts}
        assert sum(sizes[name].values()) == sum(p.nbytes for p in model.parameters())
        assert size_stage(model, stage).weights == sum(sizes[name].values())
    assert sizes["halves"].pop("language_model") * 2 == sizes["whole"].pop("language_model")
    assert sizes["halves"] == sizes["whole"]


def test_parts_compute_in_what_they_are_given(adapted):
    model = adapted()
    pixels, ids = torch.rand(1, 3, 112, 112), torch.full((1, model.config.image_tokens), 5)
    ids[:] = model.config.image_token_id

    def computed(precision):
        stage = by_part().stages[1].model_copy(update={"precision": precision})
        hold(model, select(model, stage.train), stage)
        seen = {}
        watched = {"encoder": model.encoder, "connector": model.connector}
        with computing(model, stage):
            handles = [
                part.register_forward_hook(lambda *call, name=name: seen.update({name: call[-1].dtype}))
                for name, part in watched.items()
            ]
            seen["language_model"] = model(ids, pixels).logits.dtype
        for handle in handles:
            handle.remove()
        assert not torch.is_autocast_enabled("cpu")
        return {name for name, dtype in seen.items() if dtype == torch.bfloat16}

    assert computed("float32") == set()
    for part in ("encoder", "connector", "language_model"):
        assert computed({part: "bfloat16"}) == {part}
    assert computed(dict.fromkeys(("encoder", "language_model"), "bfloat16")) == {"encoder", "language_model"}
    with computing(model, by_part().stages[1]), pytest.raises(RuntimeError, match="shape"):
        model.connector(torch.zeros(1, 1, 3))  # autocast ends where the forward pass fails, too
    assert not torch.is_autocast_enabled("cpu")


def test_a_run_with_precision_by_part_that_was_stopped_ends_with_the_same_bits(
    adapted, made_faces, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 1)

    def run(name):
        recipe = by_part(*(f"stages.{i}.held_out=null" for i in range(3)))
        return Trainer(
            adapted(), recipe, output_dir=tmp_path / name, data_root=made_faces, progress=False
        ).fit(resume=True).state_dict()  # fmt: skip

    whole = run("whole")
    real, stops = stage_run.StageLoss.part, ["1-alignment", "2-basic-vqa", "3-face-tasks"]

    def part(self, wrapped, share, **options):
        for name in stops:  # in the third step of each stage
            if Checkpoints(tmp_path / "stopped" / "stages" / name / "checkpoint").steps()[-1:] == [2]:
                stops.remove(name)
                raise KeyboardInterrupt
        return real(self, wrapped, share, **options)

    monkeypatch.setattr(stage_run.StageLoss, "part", part)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    resumed = run("stopped")
    assert not stops
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    kept = Checkpoints(tmp_path / "whole" / "stages" / "2-basic-vqa" / "checkpoint").load().tensors["model"]
    assert {str(kept[key].dtype) for key in kept if key.startswith("encoder.")} == {"torch.bfloat16"}


def test_a_part_of_which_some_weights_train_is_held_in_float32(adapted):
    model = adapted()
    layer = "language_model.*layers.0.*"
    stage = by_part().stages[0].model_copy(update={"train": (layer,), "lr": {layer: 1.0}})
    hold(model, select(model, stage.train), stage)
    assert dtypes(model)["language_model"] == "float32"
    assert dtypes(model)["encoder"] == "bfloat16"


@pytest.mark.parametrize(("precision", "held"), [("float32", "float32"), ("bfloat16", "bfloat16")])
def test_with_one_precision_for_all_what_was_loaded_in_bfloat16_stays_or_not(adapted, precision, held):
    model = adapted().bfloat16()
    stage = by_part().stages[0].model_copy(update={"precision": precision})
    changed = hold(model, select(model, stage.train), stage)
    assert dtypes(model)["connector"] == dtypes(model)["lora"] == "float32"
    assert dtypes(model)["language_model"] == dtypes(model)["encoder"] == held
    assert ("encoder" in changed) == (held == "float32")


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        ("{lora: bfloat16}", r"no part 'lora' to give a precision to: it computes in 'language_model'"),
        ("{vision: bfloat16}", r"no part 'vision' to give a precision to; parts are encoder, connector"),
        ("{encoder: float8}", r"bfloat16"),
    ],
)
def test_a_precision_of_a_part_that_cannot_have_one_is_an_error(precision, message):
    with pytest.raises(ConfigError, match=message) as error:
        by_part(f"stages.1.precision={precision}")
    assert all(f"\n  {line}:" in str(error.value) for line in ("given", "expected", "do"))


def test_a_precision_of_a_part_that_the_model_lacks_is_an_error_before_anything_trains(
    adapted, made_faces, tmp_path
):
    recipe = by_part("stages.2.precision={heads: bfloat16}")
    trainer = Trainer(adapted(), recipe, output_dir=tmp_path, data_root=made_faces, progress=False)
    with pytest.raises(ConfigError, match=r"no part 'heads' to give a precision to\n.*'face-tasks'") as error:
        trainer.fit()
    assert "expected: parts of the model: encoder, connector, language_model\n" in str(error.value)
    assert not (tmp_path / "stages").exists()


def test_frequencies_of_positions_are_not_rounded(small_model):
    def rounded(change):
        model = copy.deepcopy(small_model)
        before = model.language_model.model.rotary_emb.inv_freq.clone()
        change(model)
        assert set(dtypes(model).values()) == {"bfloat16"}
        return not torch.equal(before, model.float().language_model.model.rotary_emb.inv_freq)

    assert not rounded(lambda model: cast(model, torch.bfloat16))
    assert rounded(lambda model: model.bfloat16())  # which is why
