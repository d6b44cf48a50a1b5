"""A small causal LM and its tokenizer, made from nothing but text.

The tokenizer is byte-level BPE (any text has ids, and decoding gives the very same text back) with one
departure: runs of digits are cut off from what surrounds them, and 0 to 120 are whole tokens. So an age, an
angle or a count is *one* prediction, the probabilities of all ages can be read off one step, and "34"
is the same id after a space, after a bracket, or at the start of an answer (a space before it is a
token of its own). Learned merges would instead give "34" one id, "37" two, and " 34" a third.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from facemllm.core.errors import ConfigError
from facemllm.language.model import LanguageModel
from facemllm.processing.special_tokens import face_tokens

PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"

MAX_NUMBER = 120
"""The largest whole number that is one token: above every age in the face datasets (UTKFace ends at 116)."""

# ChatML. The end of turn is the end-of-sequence token, so generation stops where an answer stops.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tiny_language_model(
    texts: Iterable[str],
    *,
    hidden_size: int = 256,
    layers: int = 4,
    heads: int = 4,
    vocab_size: int = 2048,
    max_length: int = 1024,
    location_bins: int = 0,
    seed: int = 0,
) -> LanguageModel:
    """Return an untrained Llama of a few million parameters with a tokenizer trained on ``texts``.

    Args:
        texts: The language to cut into tokens, one document an item.
        hidden_size: D, the width; a multiple of ``2 * heads``.
        layers: Number of transformer blocks.
        heads: H, the attention heads of a block.
        vocab_size: At most so many tokens (fewer if the texts are short).
        max_length: The longest sequence, in tokens.
        location_bins: Number of location tokens to add to the vocabulary.
        seed: Of the initial weights; the global random state is left as it was.

    Raises:
        ConfigError: If the sizes do not fit each other.

    Example:
        >>> llm = tiny_language_model(["How old is she?"], hidden_size=32, layers=1, heads=2, vocab_size=512)
        >>> llm.tokenizer.decode(llm.tokenizer.encode("How old? 34"))
        'How old? 34'
    """
    import torch
    from transformers import LlamaForCausalLM

    config = tiny_config(
        vocab_size, hidden_size=hidden_size, layers=layers, heads=heads, max_length=max_length
    )
    tokenizer = train_tokenizer(
        texts, vocab_size=vocab_size, special_tokens=face_tokens(location_bins=location_bins)
    )
    tokenizer.model_max_length = max_length
    config.vocab_size = len(tokenizer)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(config, name, getattr(tokenizer, name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LanguageModel(LlamaForCausalLM(config), tokenizer)


def tiny_config(
    vocab_size: int, *, hidden_size: int = 256, layers: int = 4, heads: int = 4, max_length: int = 1024
) -> Any:
    """Return the configuration of a small Llama whose input and output embeddings are the same.

    Raises:
        ConfigError: If the sizes do not fit each other.

    Example:
        >>> tiny_config(2048, hidden_size=192).intermediate_size
        512
    """
    from transformers import LlamaConfig

    if hidden_size % (2 * heads):
        raise ConfigError(
            "the width does not divide among the heads",
            given=f"hidden_size={hidden_size}, heads={heads}",
            expected="a hidden_size that is a multiple of 2 * heads",
            do="change one of them",
        )
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=-(-hidden_size * 8 // 3 // 32) * 32,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
    )


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, special_tokens: Sequence[str] = ()) -> Any:
    """Train the byte-level BPE tokenizer described at the top of this file.

    Raises:
        ConfigError: If ``vocab_size`` has no room for bytes, numbers and special tokens.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = [PAD, START, END, *special_tokens]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    numbers = list(_number_merges())
    learned = vocab_size - len(special) - len(alphabet) - len(numbers)
    if learned < 0:
        raise ConfigError(
            "the vocabulary is too small",
            given=f"vocab_size={vocab_size}",
            expected=f"at least {vocab_size - learned}: bytes, numbers, {len(special)} special tokens",
            do="raise vocab_size",
        )
    learner = Tokenizer(models.BPE())
    # Digits are left out of the training text: their merges are ours.
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("[0-9]+"), "removed"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + learned,
        initial_alphabet=alphabet,
        show_progress=False,
        max_token_length=24,
    )
    learner.train_from_iterator(_with_roles(texts), trainer)
    merges = [*numbers, *_learned_merges(learner)]
    # Two merges may spell the same token ("a"+"bc", "ab"+"c"): it is counted once, so that ids have no holes.
    spelled = dict.fromkeys([*special, *alphabet, *map("".join, merges)])
    vocabulary = {token: index for index, token in enumerate(spelled)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("[0-9]{1,3}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def number_token_ids(tokenizer: Any) -> dict[int, int]:
    """Return the id of each whole number that is one token of ``tokenizer``, from 0 up.

    Example:
        >>> tokenizer = train_tokenizer(["a"], vocab_size=512)
        >>> ids = number_token_ids(tokenizer)
        >>> len(ids), ids[34] == tokenizer.convert_tokens_to_ids("34")
        (121, True)
    """
    encoded = {
        number: tokenizer.encode(str(number), add_special_tokens=False) for number in range(MAX_NUMBER + 1)
    }
    return {number: ids[0] for number, ids in encoded.items() if len(ids) == 1}


def _number_merges() -> Iterator[tuple[str, str]]:
    # BPE merges the pair of best rank first, not the leftmost. In "110" and "112" that must be "11", and in
    # "120" it must be "12" and not "20", so that the third digit finds its first two already joined.
    first = ["11", "12", "10"]
    for digits in first + [str(number) for number in range(10, 100) if str(number) not in first]:
        yield digits[0], digits[1]
    for number in range(100, MAX_NUMBER + 1):
        yield str(number)[:2], str(number)[2]


def _with_roles(texts: Iterable[str]) -> Iterator[str]:
    # Every chat holds the names of the roles, so each should be one token.
    for text in texts:
        yield text
        yield "system\nuser\nassistant"


def _learned_merges(learner: Any) -> list[tuple[str, str]]:
    import json

    merges = json.loads(learner.to_str())["model"]["merges"]
    return [
        (left, right)
        for left, right in (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    ]
