"""Chats to ids and labels: what is trained on, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemllm.core.errors import TokenizationError
from facemllm.language import train_tokenizer
from facemllm.processing.special_tokens import IMAGE_TOKEN, add_special_tokens, face_tokens, region_token
from facemllm.processing.template import (
    IGNORE,
    PLAIN_CHAT_TEMPLATE,
    control_tokens,
    encode_chat,
    encode_prompt,
    neutralise,
    stop_ids,
    with_images,
)

TEXTS = ["How old is the person? What is the expression of this face? happy, sad, yes, no."] * 20


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, vocab_size=600, special_tokens=face_tokens(location_bins=10))


def chat(*texts: str, system: str | None = None) -> list[dict[str, str]]:
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return ([{"role": "system", "content": system}] if system else []) + turns


def trained_on(tokenizer, encoded) -> str:
    return tokenizer.decode([label for label in encoded.labels if label != IGNORE])


def test_only_answers_and_their_ends_are_trained_on(tokenizer):
    turns = chat(with_images("How old?"), "34", "Happy?", "I don't know.", system="Look at the face.")
    encoded = encode_chat(tokenizer, turns, image_tokens=7)
    assert trained_on(tokenizer, encoded) == "34<|im_end|>I don't know.<|im_end|>"
    assert all(
        label in (IGNORE, token) for label, token in zip(encoded.labels, encoded.input_ids, strict=True)
    )
    assert sum(encoded.image_mask) == 7
    image_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    assert [token == image_id for token in encoded.input_ids] == encoded.image_mask
    assert len(encoded) == len(encoded.labels) == len(encoded.image_mask)


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip)


@settings(max_examples=50, deadline=None)
@given(question=words, answer=words, system=st.none() | words, images=st.integers(0, 2))
def test_prompt_is_what_precedes_the_answer(tokenizer, question, answer, system, images):
    turns = chat(with_images(question.strip(), images), answer, system=system)
    encoded = encode_chat(tokenizer, turns, image_tokens=3, images=images)
    prompt = encode_prompt(tokenizer, question, image_tokens=3, images=images, system=system)
    assert encoded.input_ids[: len(prompt)] == prompt.input_ids
    assert encoded.labels[: len(prompt)] == prompt.labels == [IGNORE] * len(prompt)
    assert trained_on(tokenizer, encoded) == answer.strip() + "<|im_end|>"


def test_history_puts_the_picture_first(tokenizer):
    turns = chat(with_images("How old?"), "34", "Happy?", "yes")
    encoded = encode_chat(tokenizer, turns, image_tokens=2)
    prompt = encode_prompt(tokenizer, "Happy?", image_tokens=2, history=chat("How old?", "34"))
    assert encoded.input_ids[: len(prompt)] == prompt.input_ids


def test_our_own_tokens_may_be_written_in_text(tokenizer):
    answer = f"<face><loc_001><loc_009> {region_token('eyes')}"
    encoded = encode_chat(tokenizer, chat(with_images("Where?"), answer), image_tokens=1)
    ids = tokenizer.convert_tokens_to_ids(["<face>", "<loc_001>", "<loc_009>", "<region_eyes>", "<|im_end|>"])
    assert [label for label in encoded.labels if label in ids] == ids


@pytest.mark.parametrize("text", ["a <|im_end|> b", "<|im_start|>system", "see <|pad|>"])
def test_control_tokens_in_text_are_refused(tokenizer, text):
    with pytest.raises(TokenizationError, match="control token"):
        encode_prompt(tokenizer, text, image_tokens=1)
    with pytest.raises(TokenizationError, match="control token"):
        encode_chat(tokenizer, chat(with_images("a"), text), image_tokens=1)
    safe = neutralise(tokenizer, text)
    prompt = encode_prompt(tokenizer, safe, image_tokens=1)
    plain = encode_prompt(tokenizer, "plain", image_tokens=1)
    specials = {tokenizer.convert_tokens_to_ids(token) for token in control_tokens(tokenizer)}
    assert [i for i in prompt.input_ids if i in specials] == [i for i in plain.input_ids if i in specials]


def test_placeholders_and_pictures_must_agree(tokenizer):
    with pytest.raises(TokenizationError, match="0 <image> in the user's turns, 1 pictures"):
        encode_chat(tokenizer, chat("How old?", "34"), image_tokens=1)
    with pytest.raises(TokenizationError, match="2 <image> in the user's turns, 1 pictures"):
        encode_chat(tokenizer, chat(with_images("How old is <image>?"), "34"), image_tokens=1)
    with pytest.raises(TokenizationError, match="control token '<image>'"):
        encode_chat(tokenizer, chat(with_images("How old?"), "<image>"), image_tokens=1)
    with pytest.raises(TokenizationError, match="control token '<image>'"):
        encode_prompt(tokenizer, "How old is <image>?", image_tokens=1, images=0)
    with pytest.raises(TokenizationError, match="placeholders were lost"):
        encode_chat(train_tokenizer(TEXTS, vocab_size=500), chat(with_images("a"), "b"), image_tokens=1)


def test_nothing_is_cut_off(tokenizer):
    turns = chat(with_images("How old?"), "34")
    length = len(encode_chat(tokenizer, turns, image_tokens=50))
    assert len(encode_chat(tokenizer, turns, image_tokens=50, max_length=length)) == length
    with pytest.raises(TokenizationError, match="would eat image tokens or the answer"):
        encode_chat(tokenizer, turns, image_tokens=50, max_length=length - 1)
    with pytest.raises(TokenizationError, match="too long"):
        encode_prompt(tokenizer, "How old?", image_tokens=50, max_length=20)


def test_wrong_turns(tokenizer):
    with pytest.raises(TokenizationError, match="no answer at its end"):
        encode_chat(tokenizer, chat("How old?"), image_tokens=1, images=0)
    with pytest.raises(TokenizationError, match="empty turn"):
        encode_chat(tokenizer, chat("How old?", "  "), image_tokens=1, images=0)
    for turns in ([], [{"role": "tool", "content": "x"}]):
        with pytest.raises(TokenizationError, match="wrong turns"):
            encode_chat(tokenizer, turns, image_tokens=1, images=0)


def with_template(template: str | None):
    tokenizer = train_tokenizer(TEXTS, vocab_size=500, special_tokens=[IMAGE_TOKEN])
    tokenizer.chat_template = template
    return tokenizer


def test_plain_template_has_the_space_before_the_answer_trained_on():
    tokenizer = with_template(PLAIN_CHAT_TEMPLATE)
    encoded = encode_chat(
        tokenizer, chat("Happy?", "yes", "Old?", "no", system="Look."), image_tokens=1, images=0
    )
    assert trained_on(tokenizer, encoded) == " yes<|im_end|> no<|im_end|>"
    assert tokenizer.decode(encoded.input_ids).startswith("Look. USER: Happy? ASSISTANT: yes")


# The prompt says something else than what precedes an answer.
OTHER_PROMPT = (
    "{% for m in messages %}{{ m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}"
)
# Earlier answers are left out of later prompts.
FORGETFUL = (
    "{% for m in messages %}{% if loop.last or m['role'] == 'user' %}"
    "{{ m['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "match"),
    [
        (None, "no chat template"),
        ("{% for m in messages %}{{ m['content'] + '\\n' }}{% endfor %}", "does not end an answer"),
        (OTHER_PROMPT, "cannot be masked exactly"),
        (FORGETFUL, "cannot be masked exactly"),
        ("{{ raise_exception('no system text') }}", "chat template refuses the turns"),
    ],
)
def test_templates_that_cannot_be_masked_are_refused(template, match):
    with pytest.raises(TokenizationError, match=match):
        encode_chat(with_template(template), chat("Happy?", "yes", "Old?", "no"), image_tokens=1, images=0)


def test_ids_that_merge_over_the_border_are_refused():
    # The prompt ends in a space, which byte-level BPE joins to the first word of the answer.
    texts = ["Answer: happy person"] * 50
    tokenizer = train_tokenizer(texts, vocab_size=500)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] + ' ' }}"
        "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
    )
    with pytest.raises(TokenizationError, match="cannot be masked exactly"):
        encode_chat(tokenizer, chat("Answer:", "happy"), image_tokens=1, images=0)


def test_generation_stops_at_the_end_of_turn(tokenizer):
    assert stop_ids(tokenizer) == [tokenizer.convert_tokens_to_ids("<|im_end|>")]


def test_added_tokens_are_counted_once():
    tokenizer = train_tokenizer(TEXTS, vocab_size=500)
    assert add_special_tokens(tokenizer, face_tokens()) == len(face_tokens())
    assert add_special_tokens(tokenizer, face_tokens()) == 0
    with pytest.raises(TokenizationError, match="no such face region"):
        region_token("ear")
