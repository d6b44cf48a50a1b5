"""A LLaVA checkpoint as a FaceMLLM: the same logits, the same answers, the same tensors."""

import json
import shutil

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from facemllm.core.errors import CheckpointError
from facemllm.model import AutoFaceMLLM

QUESTIONS = ["How old is this person?", "Is the person smiling?", "Hm?"]


@pytest.fixture
def peer(llava_folder):
    return LlavaForConditionalGeneration.from_pretrained(llava_folder).eval()


@pytest.fixture
def batch(llava_folder, portrait):
    processor = AutoProcessor.from_pretrained(llava_folder)
    processor.tokenizer.padding_side = "left"
    prompts = [
        processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}],
            add_generation_prompt=True,
        )
        for question in QUESTIONS
    ]
    picture = Image.open(portrait)
    return processor(text=prompts, images=[picture] * 3, return_tensors="pt", padding=True)


def peer_answers(peer, batch, tokenizer, tokens):
    with torch.no_grad():
        out = peer.generate(**batch, max_new_tokens=tokens, do_sample=False)
    new = out[:, batch["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]


def test_logits_are_the_peers(llava_folder, peer, batch):
    ours = AutoFaceMLLM.from_pretrained(llava_folder)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        assert torch.allclose(ours(**batch).logits[real], peer(**batch).logits[real], atol=1e-5)


def test_greedy_answers_are_the_peers(llava_folder, peer, batch, portrait):
    ours = AutoFaceMLLM.from_pretrained(llava_folder)
    expected = peer_answers(peer, batch, ours.processor.tokenizer, 8)
    assert len(set(expected)) == 3  # else this would prove little
    answers = ours.ask(portrait, QUESTIONS, max_new_tokens=8)
    assert [answer.text for answer in answers] == expected
    assert [answer.question for answer in answers] == QUESTIONS
    assert ours.ask(portrait, QUESTIONS[1], max_new_tokens=8).text == expected[1]


def test_it_can_be_asked_about_a_face(llava_folder, portrait):
    ours = AutoFaceMLLM.from_pretrained(llava_folder)
    assert ours.ask(portrait, "Hm?", max_new_tokens=2).face is None
    assert ours.ask(portrait, "Hm?", max_new_tokens=2, crop="face").face is not None


def test_it_is_saved_as_one_of_ours(llava_folder, portrait, tmp_path):
    ours = AutoFaceMLLM.from_pretrained(llava_folder)
    ours.save_pretrained(tmp_path)
    again = AutoFaceMLLM.from_pretrained(tmp_path)
    texts = [[a.text for a in m.ask(portrait, QUESTIONS, max_new_tokens=6)] for m in (ours, again)]
    assert texts[0] == texts[1]


def test_options_are_weighed_as_one_by_one(llava_folder, portrait):
    ours = AutoFaceMLLM.from_pretrained(llava_folder)
    tree = ours.choose(portrait, QUESTIONS[1], ["yes", "no", "no idea"])
    ours.plain_reasons = ["asked one by one, to compare"]
    assert tree == pytest.approx(ours.choose(portrait, QUESTIONS[1], ["yes", "no", "no idea"]), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"projector_hidden_act": "relu"}, "projector_hidden_act='relu'"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "asks for code to be run"),
    ],
)
def test_what_we_do_not_compute_exactly_is_refused(llava_folder, tmp_path, change, message):
    folder = tmp_path / "copy"
    shutil.copytree(llava_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match=message):
        AutoFaceMLLM.from_pretrained(folder)


def test_control_tokens_in_a_question_are_refused(llava_folder, portrait):
    from facemllm.core.errors import TokenizationError

    ours = AutoFaceMLLM.from_pretrained(llava_folder)
    with pytest.raises(TokenizationError, match="control token '<image>'"):
        ours.ask(portrait, "What is <image>?")
