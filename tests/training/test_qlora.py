"""LoRA beside weights of four bits, trained for real where bitsandbytes is installed."""

from importlib.util import find_spec

import pytest
import torch
import yaml

from facemllm.core.errors import ConfigError, MissingExtraError
from facemllm.language import load_language_model, quantize, tiny_language_model
from facemllm.model import AutoFaceMLLM
from facemllm.training import ThreeStageRecipe, Trainer
from facemllm.training.checkpoints import Checkpoints

needs_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed (extra qlora)"
)
TEXTS = ["How old is this person? 34", "true or false: yes no unknown"]
SOURCE = "[{dataset: utkface, split: all}]"


@pytest.fixture
def folder(tmp_path):
    """A saved language model whose widths are blocks of 64 weights."""
    return save(tiny_language_model(TEXTS, hidden_size=64, layers=1, heads=2, vocab_size=600), tmp_path)


def save(llm, folder):
    llm.model.save_pretrained(folder / "llm")
    llm.tokenizer.save_pretrained(folder / "llm")
    return folder / "llm"


def recipe(folder, *options):
    loaded = ThreeStageRecipe.load(
        "tiny",
        (
            "encoder={name: dlib-face, image_size: 112, stages: 2}",
            "encoder_phase=null",
            "language_phase=null",
            f"language_model={folder}",
            "lora={r: 2, dropout: 0.0}",
            "quantize={compute: float32}",
            "stages.1.train=[connector, lora]",
            "stages.1.lr={connector: 0.01, lora: 0.01}",
            "stages.1.steps=4",
            "stages.1.batch_size=4",
            f"stages.1.data={SOURCE}",
            *options,
        ),
    )
    return loaded.model_copy(update={"stages": loaded.stages[1:2]})


@needs_bitsandbytes
def test_a_stage_trains_beside_packed_weights_and_is_saved_unpacked(folder, made_faces, portrait, tmp_path):
    seen = {}

    def hook(model, stage):
        layer = model.language_model.get_base_model().model.layers[0].self_attn.q_proj.base_layer
        seen["type"], seen["bytes"] = layer.weight.dtype, layer.weight.nbytes
        return {}

    changed = recipe(folder, f"stages.1.held_out={{data: {SOURCE}, every: 2, batches: 1}}")
    out = tmp_path / "run"
    model = Trainer(
        None, changed, output_dir=out, data_root=made_faces, progress=False, hooks=[hook]
    ).fit()  # fmt: skip
    assert seen == {"type": torch.uint8, "bytes": 64 * 64 // 2}
    moved = yaml.safe_load((out / "stages" / "1-basic-vqa" / "movement.yaml").read_text())["moved"]
    assert {"lora" if "lora_" in name else name.partition(".")[0] for name in moved} == {"connector", "lora"}
    assert "uint8" not in {str(p.dtype).rpartition(".")[2] for p in model.parameters()}
    saved = AutoFaceMLLM.from_pretrained(out / "model", dtype="float32")
    asked = "How old is this person?"
    assert saved.ask(portrait, asked, crop="none").text == model.ask(portrait, asked, crop="none").text
    ours, read = (m.language_model(torch.arange(5, 25)[None]).logits for m in (model, saved))
    torch.testing.assert_close(ours, read)


@needs_bitsandbytes
def test_a_stopped_run_ends_with_the_bits_of_one_that_was_not(folder, made_faces, tmp_path, monkeypatch):
    from facemllm.training import loop, stage_run

    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 1)

    def run(name):
        trainer = Trainer(
            None, recipe(folder), output_dir=tmp_path / name, data_root=made_faces, progress=False
        )
        return trainer.fit(resume=True).state_dict()

    whole = run("whole")
    real = stage_run.StageLoss.part

    def stops(self, wrapped, share, **options):
        if Checkpoints(tmp_path / "stopped" / "stages" / "1-basic-vqa" / "checkpoint").steps()[-1:] == [2]:
            raise KeyboardInterrupt
        return real(self, wrapped, share, **options)

    with monkeypatch.context() as patch:
        patch.setattr(stage_run.StageLoss, "part", stops)
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    resumed = run("stopped")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@needs_bitsandbytes
def test_packing_comes_near_the_weights(folder):
    plain = load_language_model(folder).model
    packed = load_language_model(folder, quantize={"compute": "float32"}).model
    assert quantize.is_quantized(packed)
    assert not quantize.is_quantized(plain)
    quantize.dequantize(packed)
    assert not quantize.is_quantized(packed)
    name = "model.layers.0.mlp.up_proj.weight"
    one, other = (dict(model.named_parameters())[name] for model in (plain, packed))
    apart = (one - other).abs().mean() / one.abs().mean()
    assert 0.05 < apart < 0.12  # 0.09 for weights of a normal distribution


@needs_bitsandbytes
def test_widths_that_are_no_whole_blocks_are_refused_on_a_cpu(small_llm, tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be packed on a CPU\n.*reads 48 numbers"):
        load_language_model(save(small_llm, tmp_path), quantize={})


def test_without_bitsandbytes_it_says_so(folder, monkeypatch):
    monkeypatch.setattr(quantize, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'bitsandbytes'(.|\n)*facemllm\[qlora\]"):
        load_language_model(folder, quantize={})


@needs_bitsandbytes
def test_without_a_device_it_says_so(folder, monkeypatch):
    import bitsandbytes

    monkeypatch.setattr(bitsandbytes, "supported_torch_devices", {"another"})
    with pytest.raises(ConfigError, match="no device here computes with 4-bit weights"):
        load_language_model(folder, quantize={})


def test_what_cannot_be_packed_is_refused(small_llm, folder, made_faces, tmp_path):
    for source in (small_llm, "model.gguf"):
        with pytest.raises(ConfigError, match="these weights cannot be packed"):
            load_language_model(source, quantize={})
    with pytest.raises(ConfigError, match="levels"):
        load_language_model(folder, quantize={"levels": 3})
    with pytest.raises(ConfigError, match="quantize needs a language_model to pack and lora"):
        recipe(folder, "lora=null", "stages.1.train=[connector]", "stages.1.lr={connector: 0.1}")
    trainer = Trainer(None, recipe(folder), output_dir=tmp_path / "r", data_root=made_faces, progress=False)
    trainer.processes.kind = "fsdp2"
    with pytest.raises(ConfigError, match="packed weights are not sharded"):
        trainer.fit()
