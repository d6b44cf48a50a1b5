"""Chat turns -> token ids, with a label mask that trains only on answers.

The rendered chat is tokenised as a whole, as any other program would, and so is each prompt (the chat up to
an answer, with the template's generation prompt). A prompt's ids must be the first ids of the whole:
then what follows is exactly what the model has to generate after that prompt, and it alone is trained
on. Where that does not hold the chat is refused; nothing is masked by guess, and nothing is cut off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facemllm.core.errors import TokenizationError
from facemllm.processing.special_tokens import IMAGE_TOKEN, is_face_token

IGNORE = -100
"""The label that torch's cross entropy leaves out."""

# For tokenizers that come without a template: the plain format of Vicuna, the language model of LLaVA-1.5.
PLAIN_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + ' ' }}"
    "{% elif message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


@dataclass(frozen=True)
class Encoded:
    """One tokenised chat of L tokens.

    Args:
        input_ids: Ids, with the ``<image>`` id where image features go. Shape [L].
        labels: The ids of answers and their end of turn; ``IGNORE`` elsewhere. Shape [L].
        image_mask: True where image features go. Shape [L].
    """

    input_ids: list[int]
    labels: list[int]
    image_mask: list[bool]

    def __len__(self) -> int:
        return len(self.input_ids)


def encode_chat(
    tokenizer: Any,
    turns: Sequence[Mapping[str, str]],
    *,
    image_tokens: int,
    images: int = 1,
    max_length: int | None = None,
) -> Encoded:
    """Tokenise a chat for training; labels cover the assistant's answers and their ends of turn.

    Args:
        tokenizer: A transformers tokenizer with a chat template and the ``<image>`` token.
        turns: ``{"role": "system" | "user" | "assistant", "content": text}``, ending with the assistant.
            White space around a text is dropped. User turns hold an ``<image>`` for each picture (see
            ``with_images``).
        image_tokens: N, the tokens of one picture.
        images: Number of pictures.
        max_length: The most tokens the model can take.

    Raises:
        TokenizationError: If a text holds a control token, placeholders and pictures differ in number, the
            template cannot be masked exactly, or the chat is longer than ``max_length``.

    Example:
        >>> from facemllm.language import tiny_language_model
        >>> llm = tiny_language_model(["a"], hidden_size=32, layers=1, heads=2, vocab_size=512)
        >>> turns = [{"role": "user", "content": with_images("Age?")}, {"role": "assistant", "content": "34"}]
        >>> encoded = encode_chat(llm.tokenizer, turns, image_tokens=4)
        >>> sum(encoded.image_mask), llm.tokenizer.decode([i for i in encoded.labels if i != IGNORE])
        (4, '34<|im_end|>')
    """
    checked = _check(tokenizer, turns, images)
    if checked[-1]["role"] != "assistant":
        raise TokenizationError(
            "chat has no answer at its end",
            given=f"a last turn of {checked[-1]['role']}",
            expected="the assistant's answer",
            do="add the answer, or use encode_prompt to generate one",
        )
    ids = _ids(tokenizer, _render(tokenizer, checked))
    labels = [IGNORE] * len(ids)
    for index, turn in enumerate(checked):
        if turn["role"] == "assistant":
            start, end = _answer_span(tokenizer, checked, index, ids)
            labels[start:end] = ids[start:end]
    return _expand(tokenizer, ids, labels, image_tokens, images, max_length)


def encode_prompt(
    tokenizer: Any,
    question: str,
    *,
    image_tokens: int,
    images: int = 1,
    system: str | None = None,
    history: Sequence[Mapping[str, str]] = (),
    max_length: int | None = None,
) -> Encoded:
    """Tokenise a question for generation: the same ids that precede the answer in ``encode_chat``.

    Args:
        tokenizer: As for ``encode_chat``.
        question: Plain text. The pictures are put before the first question; an ``<image>`` in it is refused.
        image_tokens: N, the tokens of one picture.
        images: Number of pictures.
        system: Text of a system turn.
        history: Earlier turns of user and assistant, as plain text.
        max_length: The most tokens the model can take.

    Raises:
        TokenizationError: As for ``encode_chat``.
    """
    texts = [turn.get("content", "") for turn in history] + [question, system or ""]
    if any(IMAGE_TOKEN in text for text in texts):
        raise _control_error(IMAGE_TOKEN)
    turns = [dict(turn) for turn in history] + [{"role": "user", "content": question}]
    turns[0]["content"] = with_images(turns[0]["content"].strip(), images)
    if system:
        turns.insert(0, {"role": "system", "content": system})
    ids = _ids(tokenizer, _render(tokenizer, _check(tokenizer, turns, images), prompt=True))
    return _expand(tokenizer, ids, [IGNORE] * len(ids), image_tokens, images, max_length)


def with_images(text: str, images: int = 1) -> str:
    r"""Return ``text`` with placeholders for pictures before it, in the order of LLaVA.

    Example:
        >>> with_images("How old?")
        '<image>\nHow old?'
    """
    return f"{IMAGE_TOKEN}\n" * images + text


def neutralise(tokenizer: Any, text: str) -> str:
    r"""Return ``text`` with every control token in it broken by a zero-width space, so that it is plain text.

    For captions from the web and the like, where one stray ``</s>`` should not stop a run.

    Example:
        >>> from facemllm.language import tiny_language_model
        >>> llm = tiny_language_model(["a"], hidden_size=32, layers=1, heads=2, vocab_size=512)
        >>> neutralise(llm.tokenizer, "an <image> of <loc_001>")
        'an <\u200bimage> of <loc_001>'
    """
    # Longest first: one control token may hold another.
    for token in sorted(control_tokens(tokenizer), key=len, reverse=True):
        text = text.replace(token, f"{token[0]}\u200b{token[1:]}")
    return text


def control_tokens(tokenizer: Any) -> set[str]:
    """Return what must not be spelled in a text: ``<image>`` and all special tokens that are not ours."""
    special = {str(token) for token in tokenizer.all_special_tokens}
    special |= {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return {token for token in special if len(token) > 1 and not is_face_token(token)} | {IMAGE_TOKEN}


def refuse_control_tokens(tokenizer: Any, text: str) -> None:
    """Refuse a text that spells a control token.

    Raises:
        TokenizationError: If it does.
    """
    for token in control_tokens(tokenizer):
        if token in text:
            raise _control_error(token)


def stop_ids(tokenizer: Any) -> list[int]:
    """Return the ids at which generation stops: end of sequence and the template's end of turn.

    Example:
        >>> from facemllm.language import tiny_language_model
        >>> llm = tiny_language_model(["a"], hidden_size=32, layers=1, heads=2, vocab_size=512)
        >>> llm.tokenizer.convert_ids_to_tokens(stop_ids(llm.tokenizer))
        ['<|im_end|>']
    """
    turns = _check(tokenizer, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}], 0)
    ids = _ids(tokenizer, _render(tokenizer, turns))
    _, end = _answer_span(tokenizer, turns, 1, ids)
    return sorted({ids[end - 1], tokenizer.eos_token_id} - {None})


def _check(tokenizer: Any, turns: Iterable[Mapping[str, str]], images: int) -> list[dict[str, str]]:
    checked = [{"role": turn.get("role", ""), "content": turn.get("content", "").strip()} for turn in turns]
    if not checked or any(turn["role"] not in ("system", "user", "assistant") for turn in checked):
        raise TokenizationError(
            "chat has wrong turns",
            given=f"roles {[turn['role'] for turn in checked]}",
            expected="turns of system, user and assistant",
            do='write turns as {"role": ..., "content": ...}',
        )
    found = sum(turn["content"].count(IMAGE_TOKEN) for turn in checked if turn["role"] == "user")
    if found != images:
        raise TokenizationError(
            "text and pictures do not fit together",
            given=f"{found} {IMAGE_TOKEN} in the user's turns, {images} pictures",
            expected=f"an {IMAGE_TOKEN} for each picture",
            do=f"use with_images(text, {images}), and keep {IMAGE_TOKEN} out of other text",
        )
    forbidden = control_tokens(tokenizer)
    for turn in checked:
        if not turn["content"]:
            raise TokenizationError(
                "chat has an empty turn",
                given=f"no text by {turn['role']}",
                expected="text",
                do="drop the turn",
            )
        allowed = {IMAGE_TOKEN} if turn["role"] == "user" else set()
        for token in forbidden - allowed:
            if token in turn["content"]:
                raise _control_error(token)
    return checked


def _control_error(token: str) -> TokenizationError:
    return TokenizationError(
        f"text contains the control token {token!r}",
        given="a text that would be read as an instruction to the model's machinery",
        expected="plain text",
        do="remove it, or pass the text through facemllm.processing.template.neutralise",
    )


def _render(tokenizer: Any, turns: list[dict[str, str]], *, prompt: bool = False) -> str:
    from jinja2.exceptions import TemplateError

    if tokenizer.chat_template is None:
        raise TokenizationError(
            "tokenizer has no chat template",
            given=type(tokenizer).__name__,
            expected="tokenizer.chat_template",
            do="set it, for example to facemllm.processing.template.PLAIN_CHAT_TEMPLATE",
        )
    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
    except TemplateError as error:
        raise TokenizationError(
            "chat template refuses the turns",
            given=f"roles {[turn['role'] for turn in turns]}: {error}",
            expected="turns that this model's template allows",
            do="many templates want user and assistant in turn, and some no system text",
        ) from error
    return text


def _ids(tokenizer: Any, text: str) -> list[int]:
    # The template has written the begin-of-sequence token, if there is one.
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _answer_span(tokenizer: Any, turns: list[dict[str, str]], index: int, ids: list[int]) -> tuple[int, int]:
    """Start and end, in ``ids`` [L], of the answer ``turns[index]`` with its end of turn."""
    prompt_text = _render(tokenizer, turns[:index], prompt=True)
    until_text = _render(tokenizer, turns[: index + 1])
    answer = until_text[len(prompt_text) :].lstrip()
    prompt, until = _ids(tokenizer, prompt_text), _ids(tokenizer, until_text)
    exact = until_text.startswith(prompt_text) and answer.startswith(turns[index]["content"])
    if not exact or ids[: len(until)] != until or until[: len(prompt)] != prompt:
        raise TokenizationError(
            "chat cannot be masked exactly",
            given=f"turn {index}: the text or ids of its prompt change when the answer is added",
            expected="an answer that directly follows the generation prompt",
            do="ask one question a chat; if that fails too, this chat template cannot be trained on",
        )
    specials = {tokenizer.convert_tokens_to_ids(token) for token in control_tokens(tokenizer)}
    ends = [position for position in range(len(prompt), len(until)) if until[position] in specials]
    if not ends or ends[0] == len(prompt):
        raise TokenizationError(
            "chat template does not end an answer",
            given=repr(tokenizer.decode(until[len(prompt) :])),
            expected="the answer, then a special token",
            do="add the end-of-sequence token to the template: without it the model never learns to stop",
        )
    return len(prompt), ends[0] + 1


def _expand(
    tokenizer: Any, ids: list[int], labels: list[int], image_tokens: int, images: int, max_length: int | None
) -> Encoded:
    """Repeat each ``<image>`` id ``image_tokens`` times: [L] -> [L + images * (image_tokens - 1)]."""
    image_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    if ids.count(image_id) != images or image_tokens < 1:
        raise TokenizationError(
            "placeholders were lost in tokenisation",
            given=f"{ids.count(image_id)} {IMAGE_TOKEN} ids for {images} pictures of {image_tokens} tokens",
            expected="one id for each picture, and at least one token",
            do="load the tokenizer with load_language_model, which adds the special tokens",
        )
    counts = [image_tokens if token == image_id else 1 for token in ids]
    length = sum(counts)
    if max_length is not None and length > max_length:
        raise TokenizationError(
            "chat is too long",
            given=f"{length} tokens, {images * image_tokens} of them for pictures",
            expected=f"at most {max_length}; cutting it would eat image tokens or the answer",
            do="shorten the text, ask fewer questions a chat, or use a connector with fewer output tokens",
        )
    return Encoded(
        [token for token, count in zip(ids, counts, strict=True) for _ in range(count)],
        [label for label, count in zip(labels, counts, strict=True) for _ in range(count)],
        [token == image_id for token, count in zip(ids, counts, strict=True) for _ in range(count)],
    )
