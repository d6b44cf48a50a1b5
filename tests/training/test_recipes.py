"""Every recipe of the package: its model as shapes, and two steps of each stage of a small twin of it."""

import re

import pytest
import torch
import yaml

from facemllm.core.errors import ConfigError
from facemllm.data import FaceSample
from facemllm.language import language_model_from_config, train_tokenizer
from facemllm.model import AutoFaceMLLM
from facemllm.training import ThreeStageRecipe, Trainer, build_on_meta
from facemllm.training.crops import CropSet
from facemllm.training.features import FeatureSet
from facemllm.training.questions import StageData

RECIPES = ThreeStageRecipe.names()

# Published sizes of the language models: hub pages of the checkpoints ("Model size"), without tokens of ours.
PUBLISHED = {
    "smol": 134_515_008,
    "llava15-7b": 6_738_415_616,
    "qformer-7b": 6_738_415_616,
    "qwen3-4b": 4_022_468_096,
}


def count(model, *, lora=False):
    return sum(p.numel() for n, p in model.language_model.named_parameters() if ("lora_" in n) == lora)


def twin(recipe, folder):
    """Return a recipe with the same parts, smaller, that trains on a few faces and downloads nothing."""
    values = recipe.model_dump()
    if recipe.language_config:
        texts = ["How old is this person? 34", "true or false: yes no unknown"]
        tokenizer = train_tokenizer(texts, vocab_size=600, special_tokens=["<image>"])
        small = {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2 if recipe.language_config["num_key_value_heads"] < 32 else 4,
            "head_dim": 8,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        }
        llm = language_model_from_config({**recipe.language_config, **small}, tokenizer)
        llm.model.save_pretrained(folder)
        llm.tokenizer.save_pretrained(folder)
        values["language_model"] = str(folder)
    if recipe.encoder_config:
        small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        values["encoder"] = {
            **recipe.encoder,
            "name": "hf",
            "config": {**recipe.encoder_config, **small, "image_size": 28},
        }
    if recipe.connector["name"] == "qformer":
        values["connector"] |= {"num_queries": 4, "width": 16, "layers": 2, "heads": 2}
    if recipe.lora:
        values["lora"] |= {"r": 2, "alpha": 4}
    if recipe.encoder_phase:
        faces = [{"dataset": "utkface", "split": "all"}]
        values["encoder"].get("base", values["encoder"])["pretrained"] = False
        values["encoder_phase"] = {"steps": 2, "batch_size": 4, "data": faces}
        values["language_phase"] = {"steps": 2, "batch_size": 4, "texts": 200, "hidden_size": 32, "layers": 1,
                                    "heads": 2, "vocab_size": 700}  # fmt: skip
    for stage in values["stages"]:
        # A rate that moves a two-step twin: rates of a paper's 10,000 steps would not show in bfloat16.
        stage |= {"steps": 2, "batch_size": 4, "data": [{"dataset": "utkface", "split": "all"}],
                  "lr": dict.fromkeys(stage["lr"], 1e-2)}  # fmt: skip
    return ThreeStageRecipe.model_validate(values)


@pytest.mark.parametrize("name", RECIPES)
def test_its_model_builds_on_the_meta_device(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe = ThreeStageRecipe.load(name)
    model = build_on_meta(recipe)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert model.config.image_tokens == model.connector.num_output_tokens(model.encoder.num_tokens)
    assert model.plain_reasons == []  # all questions about a face can share one reading of it
    if recipe.language_config:
        assert count(model) == PUBLISHED[name]
        assert (count(model, lora=True) > 0) == (recipe.lora is not None)
    for stage in recipe.stages:
        assert set(stage.train) <= {"connector", "language_model", "lora"}


@pytest.mark.parametrize("name", RECIPES)
def test_two_steps_of_each_stage_of_its_twin(name, faces_root, tmp_path, portrait):
    recipe = twin(ThreeStageRecipe.load(name), tmp_path / "llm")
    out = tmp_path / "run"
    model = Trainer(None, recipe, output_dir=out, data_root=faces_root, progress=False).fit()
    for index, stage in enumerate(recipe.stages):
        moved = yaml.safe_load((out / "stages" / f"{index + 1}-{stage.name}" / "movement.yaml").read_text())
        parts = {"lora" if "lora_" in name else name.partition(".")[0] for name in moved["moved"]}
        assert parts == set(stage.train)
    saved = AutoFaceMLLM.from_pretrained(out / "model", dtype="float32")
    asked = "How old is this person?"
    assert saved.ask(portrait, asked, crop="none").text == model.ask(portrait, asked, crop="none").text
    if recipe.heads_from:
        assert set(saved.heads) == set(AutoFaceMLLM.from_pretrained(recipe.heads_from).heads)


def test_a_recipe_without_published_sizes_is_not_built():
    recipe = ThreeStageRecipe.load("smol", ("language_config=null",))
    with pytest.raises(ConfigError, match=r"sizes of the language_model are not known(.|\n)*language_config"):
        build_on_meta(recipe)
    with pytest.raises(ConfigError, match="sizes of the encoder are not known"):
        build_on_meta(ThreeStageRecipe.load("llava15-7b", ("encoder_config=null",)))


def test_heads_of_another_width_are_refused(faces_root, tmp_path):
    recipe = twin(ThreeStageRecipe.load("llava15-7b"), tmp_path / "llm")
    recipe = recipe.model_copy(update={"heads_from": "facemllm-tiny"})
    with pytest.raises(ConfigError, match="cannot take over these heads"):
        Trainer(None, recipe, output_dir=tmp_path / "run", data_root=faces_root, progress=False).fit()


def test_the_adapter_of_a_trained_model_loads_in_stock_peft(faces_root, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    recipe = twin(ThreeStageRecipe.load("smol"), tmp_path / "llm")
    model = Trainer(None, recipe, output_dir=tmp_path / "run", data_root=faces_root, progress=False).fit()
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "llm")
    ids = torch.arange(5, 25)[None]
    plain = base(ids).logits
    adapted = PeftModel.from_pretrained(base, tmp_path / "run" / "model" / "lora").eval()
    ours = model.language_model(input_ids=ids).logits
    apart = (adapted(ids).logits - ours).abs().max()  # the saved adapter is in bfloat16
    assert apart < 0.02 < 0.05 < (plain - ours).abs().max()


def test_what_smol_leaves_out_is_in_the_questions_and_is_never_drawn(built_in):
    """Each left-out word is one that would otherwise be asked or told, or a CelebA attribute's."""
    stage = ThreeStageRecipe.load("smol").stages[2]
    labels = {"expression": "happy", "age": 70.0, "gender": "female", "pose": {"pan": 90.0, "tilt": 0.0}}

    sample = FaceSample(id="1", image="x.jpg", labels=labels, dataset="a", licence="t")
    faces = FeatureSet(CropSet("a", (sample,), None), torch.zeros(1, 1, 9, 256), torch.zeros(1, 1).bool())

    def texts(leave_out):
        changed = stage.model_copy(update={"leave_out": leave_out, "batch_size": 400})
        data = StageData([faces], [1.0], changed, built_in.processor, 0)
        drawn = data.draw(0)
        return "\n".join(built_in.processor.tokenizer.decode(e.input_ids) for d in drawn for e in d.encoded)

    asked = re.compile(r"\b(smil|cheerful|upset|elderly|senior|profile)", re.IGNORECASE)
    assert asked.search(texts(()))
    assert not asked.search(texts(stage.leave_out))
