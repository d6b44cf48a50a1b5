import json
import pickle

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from facemllm.core.errors import CheckpointError, ConfigError, NoFaceError
from facemllm.language import load_language_model
from facemllm.language.cache_name import CACHE_NAME
from facemllm.model import Answer, AutoFaceMLLM, FaceMLLM, FaceMLLMConfig


def logits(model, portrait):
    batch = model.processor(images=[portrait], text=["How old is this person?"])
    with torch.no_grad():
        return model(**batch).logits


def test_a_saved_model_gives_equal_logits(small_model, portrait, tmp_path):
    small_model.save_pretrained(tmp_path)
    again = AutoFaceMLLM.from_pretrained(tmp_path)
    assert torch.equal(logits(small_model, portrait), logits(again, portrait))


def test_shards_are_safetensors_and_load(small_model, portrait, tmp_path):
    small_model.save_pretrained(tmp_path, max_shard_size="4MB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    assert torch.equal(
        logits(small_model, portrait), logits(AutoFaceMLLM.from_pretrained(tmp_path), portrait)
    )


def test_auto_classes_know_it(small_model, portrait, tmp_path):
    small_model.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), FaceMLLMConfig)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    batch = AutoProcessor.from_pretrained(tmp_path)(images=[portrait], text=["How old is this person?"])
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, logits(small_model, portrait))


def test_pictures_reach_the_answer(small_model, portrait):
    batch = small_model.processor(images=[portrait], text=["How old is this person?"])
    with torch.no_grad():
        seen = small_model(**batch).logits
        batch["pixel_values"] = batch["pixel_values"].flip(-1)
        mirrored = small_model(**batch).logits
    assert not torch.allclose(seen, mirrored)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_earlier_tokens_may_come_by_either_name(small_model, portrait, name):
    batch = small_model.processor(images=[portrait], text=["How old is this person?"])
    whole = logits(small_model, portrait)
    with torch.no_grad():
        embeds, _ = small_model.embed(batch["input_ids"], pixel_values=batch["pixel_values"])
        start = small_model(inputs_embeds=embeds[:, :-2], use_cache=True)
        end = small_model(inputs_embeds=embeds[:, -2:], **{name: getattr(start, CACHE_NAME)})
    torch.testing.assert_close(end.logits, whole[:, -2:], atol=1e-4, rtol=1e-4)


def test_generate_with_and_without_cache_agree(small_model, portrait):
    batch = small_model.processor(images=[portrait], text=["Is the person smiling?"])
    options = {"max_new_tokens": 6, "do_sample": False}
    assert torch.equal(
        small_model.generate(**batch, **options, use_cache=True),
        small_model.generate(**batch, **options, use_cache=False),
    )


def test_answers_do_not_depend_on_what_else_is_asked(small_model, portrait):
    questions = ["How old is this person?", "What is the expression of this person, would you say?"]
    together = small_model.ask(portrait, questions, max_new_tokens=5)
    alone = [small_model.ask(portrait, question, max_new_tokens=5) for question in questions]
    assert [a.text for a in together] == [a.text for a in alone]
    assert [a.confidence for a in together] == pytest.approx([a.confidence for a in alone], rel=1e-3)


def test_shapes_of_results(small_model, portrait):
    one = small_model.ask(portrait, "How old is this person?", max_new_tokens=2)
    assert isinstance(one, Answer)
    assert one.face is not None
    many = small_model.ask([portrait, portrait], ["a?", "b?"], max_new_tokens=2)
    assert [[a.question for a in answers] for answers in many] == [["a?", "b?"]] * 2
    every = small_model.ask(portrait, "a?", faces="all", max_new_tokens=2)
    assert isinstance(every, list)


def test_choose_gives_probabilities_of_all_options(small_model, portrait):
    result = small_model.choose(portrait, "Is the person smiling?", ["yes", "no", "no idea at all"])
    assert list(result) == ["yes", "no", "no idea at all"]
    assert sum(result.values()) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ConfigError, match="cannot choose"):
        small_model.choose(portrait, "?", ["yes"])


def test_choose_is_the_likelihood_of_the_whole_option(small_model, portrait):
    question, options = "Is the person smiling?", ["yes", "no"]
    chosen = small_model.choose(portrait, question, options)
    crop = small_model.processor
    scores = []
    for option in options:
        view = small_model.ask(portrait, question, max_new_tokens=1).face
        batch = crop(images=[portrait], text=[question], answers=[option], boxes=[view.box])
        labels = batch.pop("labels")[:, 1:]
        with torch.no_grad():
            logprobs = small_model(**batch).logits[:, :-1].log_softmax(-1)
        kept = labels != -100
        scores.append(logprobs.gather(2, labels.clamp(min=0)[..., None])[..., 0][kept].sum())
    assert list(chosen.values()) == pytest.approx(torch.stack(scores).softmax(0).tolist(), abs=1e-4)


def test_no_face_is_an_error_unless_the_whole_picture_is_wanted(small_model):
    blank = torch.full((3, 200, 200), 0.5)
    with pytest.raises(NoFaceError, match=r"no face found(?s:.)*crop='none' \(--crop none\)"):
        small_model.ask(blank, "How old is this person?")
    assert small_model.ask(blank, "a?", on_no_face="whole", max_new_tokens=2).face is None


def test_features_and_placeholders_must_agree(small_model, portrait):
    batch = small_model.processor(images=[portrait], text=["a?"])
    batch["input_ids"] = batch["input_ids"][:, 5:]
    batch["attention_mask"] = batch["attention_mask"][:, 5:]
    with pytest.raises(ConfigError, match="image tokens and image features do not match"):
        small_model(**batch)


@pytest.mark.parametrize("question", ["How old?", ["How old?", "Is it a man?"]])
def test_features_of_no_use_are_told_before_they_become_an_answer(small_model, portrait, question):
    class Spoilt(type(small_model.encoder)):
        def forward(self, pixel_values):
            return self.spoil(super().forward(pixel_values))

    small_model.encoder.__class__ = Spoilt
    for spoil, said in (
        (lambda tokens: tokens[..., :-1], r"of Spoilt do not fit(?s:.)*\(1, 16, \d+\)(?s:.)*from_parts"),
        (lambda tokens: tokens[:, 0], r"do not fit the connector"),
        (lambda tokens: tokens / 0, r"features of Spoilt are of no use(?s:.)*NaN or infinite"),
    ):
        small_model.encoder.spoil = spoil
        with pytest.raises(ConfigError, match=said):
            small_model.ask(portrait, question)


def test_lora_is_saved_and_stock_peft_loads_it(small_llm, portrait, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_config(small_llm.model.config)
    base.load_state_dict(small_llm.model.state_dict())
    llm = load_language_model(small_llm, lora={"r": 4, "target_modules": ["q_proj", "v_proj"]})
    model = FaceMLLM.from_parts(encoder="dlib-face", connector="mlp", language_model=llm)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    model.save_pretrained(tmp_path)
    again = AutoFaceMLLM.from_pretrained(tmp_path)
    assert torch.equal(logits(model, portrait), logits(again, portrait))
    ids = torch.arange(20)[None]
    stock = PeftModel.from_pretrained(base, tmp_path / "lora").eval()
    with torch.no_grad():
        assert torch.allclose(
            stock(input_ids=ids).logits, model.language_model(input_ids=ids).logits, atol=1e-5
        )


def test_adapters_switched_off_are_no_longer_read_from_the_cache(small_llm, portrait):
    llm = load_language_model(small_llm, lora={"r": 4, "target_modules": ["q_proj", "v_proj"]})
    model = FaceMLLM.from_parts(encoder="dlib-face", connector="mlp", language_model=llm).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()

    def believed():
        return model.choose(portrait, "Is the person smiling?", ["yes", "no"])

    adapted = believed()
    with model.language_model.disable_adapter():
        cached = believed()
        model.trunk_cache.clear()
        assert believed() == cached != adapted
    assert believed() == adapted


def test_where_nothing_can_be_saved(small_model, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    for place in (tmp_path / "photo.jpg", str(tmp_path / "photo.jpg" / "model"), "", None, 5):
        with pytest.raises(CheckpointError, match=r"cannot save the model(?s:.)*pass another folder"):
            small_model.save_pretrained(place)
    assert (tmp_path / "photo.jpg").read_bytes() == b"a photo"


def test_a_pickle_is_refused(small_model, tmp_path):
    small_model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin(?s:.)*convert the weights to safetensors"):
        AutoFaceMLLM.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bogus": 1}, r"given: +bogus=(?s:.)*do: +leave bogus out"),
        ({"dtype": "float7"}, r"given: +dtype='float7'(?s:.)*do: +correct dtype"),
        ({"dtype": 5}, r"given: +dtype=5"),
        ({"device_map": f"cuda:{torch.cuda.device_count()}"}, r"torch sees \d+ GPUs(?s:.)*leave device"),
        ({"attn_implementation": "foo"}, r"foo(?s:.)*do: +mend what stands in the brackets"),
    ],
)
def test_a_wrong_option_is_not_blamed_on_the_files(options, said):
    with pytest.raises(CheckpointError, match=said):
        AutoFaceMLLM.from_pretrained("facemllm-tiny", **options)


def test_a_damaged_config_is_told_with_the_parsers_words_as_given(tmp_path):
    (tmp_path / "config.json").write_text("{,")
    with pytest.raises(CheckpointError, match=r"cannot read config\.json\n  given: .*line 1 col") as told:
        AutoFaceMLLM.from_pretrained(tmp_path)
    assert "column" not in told.value.do


def test_a_config_that_asks_for_code_is_refused(small_model, tmp_path):
    small_model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))
    (tmp_path / "evil.py").write_text("raise SystemExit('code of a checkpoint ran')")
    with pytest.raises(CheckpointError, match="asks for code to be run"):
        AutoFaceMLLM.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="cannot run code"):
        AutoFaceMLLM.from_pretrained(tmp_path, trust_remote_code=True)


def test_missing_weights_are_an_error(small_model, tmp_path):
    from safetensors.torch import load_file, save_file

    small_model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop("encoder.stem.weight")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"weights do not fit(?s:.)*encoder\.stem\.weight"):
        AutoFaceMLLM.from_pretrained(tmp_path)


def test_another_kind_of_model_is_refused(small_llm, tmp_path):
    small_llm.model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="another kind of model"):
        AutoFaceMLLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["no/such-model", "no-such-folder"])
def test_an_unknown_name_is_an_error(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="cannot load a model"):
        AutoFaceMLLM.from_pretrained(name)


def test_a_model_in_the_hub_cache_loads_offline_by_revision(small_model, portrait, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--someone--face-model"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "v1").write_text(commit)
    small_model.save_pretrained(repo / "snapshots" / commit)
    again = AutoFaceMLLM.from_pretrained("someone/face-model", revision="v1", cache_dir=tmp_path)
    assert torch.equal(logits(small_model, portrait), logits(again, portrait))
    with pytest.raises(CheckpointError, match="cannot load a model"):
        AutoFaceMLLM.from_pretrained("someone/face-model", revision="v2", cache_dir=tmp_path)


def test_connector_of_other_widths_is_refused(small_llm):
    from facemllm.connectors import create_connector

    with pytest.raises(ConfigError, match="parts do not fit together"):
        FaceMLLM.from_parts(
            encoder="dlib-face",
            connector=create_connector("mlp", in_dim=7, out_dim=48),
            language_model=small_llm,
        )


def test_a_path_without_a_model_is_said_at_once(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "photo.jpg").write_bytes(b"")
    for place, problem in (("empty", "no config.json"), ("photo.jpg", "is a file"), ("no/such", "no folder")):
        with pytest.raises(CheckpointError, match=problem):
            AutoFaceMLLM.from_pretrained(tmp_path / place)


def test_a_part_of_a_loaded_model_is_swapped(small_model, portrait, tmp_path):
    parts = {"encoder": small_model.encoder, "language_model": small_model.language_model}
    with pytest.raises(ConfigError, match="needs its tokenizer"):
        FaceMLLM.from_parts(connector="qformer", **parts)
    swapped = FaceMLLM.from_parts(connector="qformer", tokenizer=small_model.processor.tokenizer, **parts)
    answer = swapped.ask(portrait, "How old is this person?", max_new_tokens=3).text
    swapped.save_pretrained(tmp_path)
    again = FaceMLLM.from_pretrained(tmp_path)
    assert again.ask(portrait, "How old is this person?", max_new_tokens=3).text == answer
