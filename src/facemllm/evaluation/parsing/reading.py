"""An answer prepared for reading: its tokens, and which of them are a refusal or the question said again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from facemllm.evaluation.parsing.lexicon import phrases, words
from facemllm.evaluation.parsing.result import UNPARSED, Parsed
from facemllm.evaluation.parsing.text import BREAKS, Cut, Token, tokenize, unwrap


@dataclass(frozen=True)
class Reading:
    """The tokens of an answer.

    Attributes:
        tokens: All tokens, in order.
        cut: The text they were cut from.
    """

    tokens: tuple[Token, ...]
    cut: Cut

    @cached_property
    def all_words(self) -> tuple[str, ...]:
        """The texts of all tokens."""
        return tuple(token.text for token in self.tokens)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The texts of the tokens, with full stops for those that are no answer (refusals, questions)."""
        dead = {index for first, end in (*self._questions, *self._refused) for index in range(first, end)}
        return tuple("." if index in dead else word for index, word in enumerate(self.all_words))

    def span(self, first: int, end: int) -> tuple[int, int] | None:
        """Return the characters of the original text that tokens ``first`` to ``end`` stand for."""
        if self.cut.offset is None or first >= end:
            return None
        return self.tokens[first].start, self.tokens[end - 1].end

    def nothing(self) -> Parsed:
        """Return what the text is when no label was found in it: a refusal, or unparsed."""
        if self._refused:
            return Parsed("refusal", span=self.span(*self._refused[0]))
        alone = phrases("refusal", "alone").find(self.words)
        return Parsed("refusal", span=self.span(alone[0].first, alone[0].end)) if alone else UNPARSED

    @cached_property
    def _sentences(self) -> list[tuple[int, int]]:
        ends = [index + 1 for index, word in enumerate(self.all_words) if word in BREAKS]
        bounds = [0, *ends, len(self.tokens)]
        return [(first, end) for first, end in pairwise(bounds) if first < end]

    @cached_property
    def _questions(self) -> list[tuple[int, int]]:
        """Sentences that end in a question mark: the question said again, unless there is nothing else."""
        asked = [(first, end) for first, end in self._sentences if self.all_words[end - 1] == "?"]
        told = any(end - first > 1 or self.all_words[first] not in BREAKS
                   for first, end in self._sentences if self.all_words[end - 1] != "?")  # fmt: skip
        return asked if told else []

    @cached_property
    def _refused(self) -> list[tuple[int, int]]:
        """Stretches of tokens that refuse, or that say what is refused."""
        questions = dict(self._questions)
        found = []
        for first, end in self._sentences:
            if first in questions:
                continue
            sentence = self.all_words[first:end]
            whole = phrases("refusal", "whole").find(sentence)
            forward = phrases("refusal", "forward").find(sentence)
            if whole:
                start, after = 0, whole[0].end
            elif forward:
                start, after = forward[0].first, forward[0].end
            else:
                continue
            found.append((first + start, first + _resumes(sentence, after)))
        return found


def readings(text: str, keys: tuple[str, ...] = ()) -> Iterator[Reading]:
    """Yield what follows an explicit "the answer is", if anything, and then the whole answer."""
    cut = unwrap(text, keys)
    tokens = tuple(tokenize(cut.text, cut.offset or 0))
    markers = phrases("context", "answers").find([token.text for token in tokens])
    if markers and markers[-1].end < len(tokens):
        yield Reading(tokens[markers[-1].end :], cut)
    yield Reading(tokens, cut)


def _resumes(sentence: tuple[str, ...], after: int) -> int:
    """Return where, after a refusal, an answer begins all the same."""
    resume = phrases("refusal", "resume")
    opener = words("refusal", "resume_after_comma")
    for index in range(after, len(sentence)):
        if resume.at(sentence, index):
            return index
        if sentence[index - 1] == "," and (sentence[index] in opener or sentence[index][0].isdigit()):
            return index
    return len(sentence)
