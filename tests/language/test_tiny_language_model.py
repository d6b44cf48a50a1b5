"""The tokenizer that is exact, and the model made from nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facemllm.core.errors import CheckpointError, ConfigError
from facemllm.language import LanguageModel, number_token_ids, tiny_language_model, train_tokenizer
from facemllm.processing.special_tokens import face_tokens

TEXTS = [f"The person is {n} years old, and happy. pan {n} degrees left" for n in range(100)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, vocab_size=600, special_tokens=face_tokens())


@settings(deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=40))
def test_text_comes_back_exactly(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("number", range(121))
def test_a_number_is_the_same_one_token_wherever_it_is(tokenizer, number):
    (expected,) = tokenizer.encode(str(number))
    assert number_token_ids(tokenizer)[number] == expected
    for text in (
        f"is {number}",
        f"is {number}.",
        f"({number})",
        f"{number} years",
        f"about{number}",
        f"\n{number}\n",
    ):
        ids = tokenizer.encode(text)
        assert ids.count(expected) == 1, tokenizer.convert_ids_to_tokens(ids)
        assert tokenizer.decode(ids) == text


def test_words_and_roles_are_learned(tokenizer):
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("The person is happy")) == [
        "The",
        "Ġperson",
        "Ġis",
        "Ġhappy",
    ]
    assert len(tokenizer.encode("assistant")) == len(tokenizer.encode("user")) == 1


def test_ids_have_no_holes(tokenizer):
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))


def test_vocabulary_has_the_size_asked_for_at_most(tokenizer):
    assert len(tokenizer) <= 600
    with pytest.raises(ConfigError, match="vocabulary is too small"):
        train_tokenizer(TEXTS, vocab_size=300)


def test_model_fits_its_tokenizer_and_learns():
    llm = tiny_language_model(TEXTS, hidden_size=32, layers=1, heads=2, vocab_size=512)
    assert llm.embed_dim == 32
    assert llm.model.get_input_embeddings().num_embeddings == len(llm.tokenizer)
    ids = torch.tensor([llm.tokenizer.encode("The person is 34 years old")])
    optimiser = torch.optim.AdamW(llm.model.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = llm.model(input_ids=ids, labels=ids).loss
        losses.append(loss.item())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert losses[-1] < losses[0] / 4


def test_seed_makes_the_weights_and_leaves_the_global_state():
    options = {"hidden_size": 32, "layers": 1, "heads": 2, "vocab_size": 512}
    state = torch.random.get_rng_state()
    first, second, other = (tiny_language_model(TEXTS, seed=seed, **options).model for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(first.lm_head.weight, second.lm_head.weight)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_sizes_that_do_not_fit():
    with pytest.raises(ConfigError, match="does not divide among the heads"):
        tiny_language_model(TEXTS, hidden_size=30, heads=4)
    llm = tiny_language_model(TEXTS, hidden_size=32, layers=1, heads=2, vocab_size=512)
    llm.tokenizer.add_tokens(["<more>"])
    with pytest.raises(CheckpointError, match="tokenizer and language model do not fit"):
        LanguageModel(llm.model, llm.tokenizer)
