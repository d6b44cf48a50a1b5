"""An answer prepared for reading: its tokens, and which of them are a refusal or the question said again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from facemllm.evaluation.parsing.lexicon import Hit, kinds, phrases, words
from facemllm.evaluation.parsing.result import UNPARSED, Parsed, Place
from facemllm.evaluation.parsing.text import BREAKS, CLAUSE_BREAKS, Spans
from facemllm.evaluation.parsing.triggers import ECHO, REFUSAL, trigger_bits
from facemllm.evaluation.parsing.wrappers import Cut

_CLAUSE_ENDS = frozenset((",", ":"))
_PAUSES = frozenset((",", ":", ".", ";"))
_SEEN = frozenset(("see", "find", "detect", "spot", "observe", "notice"))
_ANY = frozenset(("any", "a", "an", "signs", "evidence"))
_HIDING = frozenset(("hide", "conceal", "contain", "suppress"))
_PICTURES = frozenset(
    ("image", "images", "face", "faces", "person", "picture", "people", "photo", "details", "photos")
)
_SILENT = BREAKS | {"hmm", "hm", "um", "uh", "well", "ok", "okay", "ah", "oh", "er"}
_AFTER_CLAUSES = frozenset(("but", "and", "though"))
_FIRST = frozenset(("first", "initially", "originally"))
_LISTS = ("au", "pose")  # answers that may go over several sentences


class Reading:
    """The tokens of an answer, or of a part of it.

    Args:
        all_words: The tokens, in order.
        plain: The text that was cut, in lower case.
        cut: The text as it was written.
        offset: How many of its tokens stand before this part of it.
        bits: What :func:`trigger_bits` says of the tokens, where that is known already.

    Attributes:
        words: The tokens, with full stops for those that are no answer (refusals, questions).
        bits: What :func:`trigger_bits` says of the tokens.
    """

    __slots__ = ("_refused", "_sentences", "_spans", "all_words", "bits", "cut", "offset", "plain", "words")

    def __init__(
        self, all_words: list[str], plain: str, cut: Cut, offset: int = 0, bits: int | None = None
    ) -> None:
        self.all_words = self.words = all_words
        self.plain, self.cut, self.offset = plain, cut, offset
        self.bits = bits = trigger_bits(all_words) if bits is None else bits
        self._sentences: list[tuple[int, int]] | None = None
        self._spans: Spans | None = None
        self._refused: list[tuple[int, int]] = []
        if not bits & (ECHO | REFUSAL):
            return
        asked = self._questions() if bits & ECHO else []
        self._refused = self._refusals(asked) if bits & REFUSAL else []
        if asked and self._refused:
            asked = self._but_guesses(asked)
        if asked or self._refused:
            self.words = list(all_words)
            for first, end in (*asked, *self._refused):
                self.words[first:end] = ["."] * (end - first)

    def part(self, first: int, end: int) -> Reading:
        """Return tokens ``first`` to ``end`` as a reading of their own."""
        return Reading(self.all_words[first:end], self.plain, self.cut, self.offset + first)

    def span(self, first: int, end: int) -> Place | None:
        """Return where tokens ``first`` to ``end`` stand; None where they were not written so."""
        if self.cut.offset is None or first >= end:
            return None
        offset = self.offset
        return tuple.__new__(Place, (self.cut.text, self.cut.offset, first + offset, end + offset))

    def source(self, index: int) -> str:
        """Return a token as it was written."""
        if self._spans is None:
            self._spans = Spans(self.plain)
        start, end = self._spans[index + self.offset]
        return self.cut.text[start:end]

    def nothing(self) -> Parsed:
        """Return what the text is when no label was found in it: a refusal, or unparsed."""
        if self._refused:
            return Parsed("refusal", span=self.span(*self._refused[0]))
        alone = phrases("refusal", "alone").find(self.words)
        return Parsed("refusal", span=self.span(alone[0].first, alone[0].end)) if alone else UNPARSED

    @property
    def sentences(self) -> list[tuple[int, int]]:
        """First and one after the last token of each sentence."""
        if self._sentences is not None:
            return self._sentences
        found, first = [], 0
        for index, word in enumerate(self.all_words):
            if word in BREAKS:
                found.append((first, index + 1))
                first = index + 1
        if first < len(self.all_words):
            found.append((first, len(self.all_words)))
        self._sentences = found
        return found

    def _questions(self) -> list[tuple[int, int]]:
        """Sentences that end in a question mark: the question said again, unless there is nothing else."""
        text = self.all_words
        asked = [
            (first, end)
            for first, end in self.sentences
            if text[end - 1] == "?"
            or ("whether" in text[first:end] and text[first] in ("the", "you", "whether"))
        ]
        asked = [(first, self._echo_end(first, end)) for first, end in asked]
        echoes = set(asked)
        told = any(
            any(word not in _SILENT for word in text[first:end])
            for first, end in self.sentences
            if (first, end) not in echoes
        )
        return asked if told else []

    def _echo_end(self, first: int, end: int) -> int:
        """Return where "whether she smiles: no" stops to be the question."""
        if self.all_words[first] != "whether":
            return end
        return next((i for i in range(first, end) if self.all_words[i] in _CLAUSE_ENDS), end)

    def _but_guesses(self, asked: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Leave out guesses such as "33?" after a refusal with nothing else said."""
        refused = {i for first, end in self._refused for i in range(first, end)}
        silent = refused | {i for first, end in asked for i in range(first, end)}
        if any(i not in silent and word not in CLAUSE_BREAKS for i, word in enumerate(self.all_words)):
            return asked
        opens, start = words("refusal", "interrogatives"), min(refused)
        return [
            one
            for one in asked
            if one[0] < start or not opens.isdisjoint(self.all_words[one[0] : one[0] + 3])
        ]

    def _refusals(self, asked: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Stretches of tokens that refuse, or that say what is refused."""
        text = self.all_words
        whole, forward = phrases("refusal", "whole").find(text), phrases("refusal", "forward").find(text)
        built = "not" in text
        if not (whole or forward or built):  # as mostly
            return []
        questions = dict(asked)
        found = []
        for first, end in self.sentences:
            if first in questions:
                continue
            hit = next((hit for hit in whole if first <= hit.first < end), None) or next(
                (hit for hit in forward if first <= hit.first < end and _refuses(text, hit, end)), None
            )
            if hit is not None:
                start, after = hit.first, hit.end
                start = _conceded(text, start, first) if hit in whole else _begins(text, start, first)
            elif built and (place := _built(text, first, end)) is not None:
                start, after = _begins(text, place[0], first), place[1]
            else:
                continue
            if text[start] in ("so", "therefore", "hence", "thus"):
                start = first  # "the ears are covered, so I can't tell" says nothing before it
            found.append((start, _resumes(text, after, end)))
        return found


def parts(whole: Reading, task: str) -> Iterator[tuple[str, Reading]]:
    """Yield the parts of an answer that may settle it, the likeliest first, with the kind of each.

    Kinds: ``said`` (what follows "the answer is", its first sentence and then all), ``turn`` (what follows a
    conclusion or a correction: it counts only if it answers).
    """
    tokens = whole.all_words
    end = len(tokens)
    marks = kinds("context", "answers", "corrections", "conclusions").find(tokens)
    told = [mark.end for mark in marks if mark.value == "answers"]
    if told and told[-1] < end and task != "attributes":
        tail = whole.part(told[-1], end)
        first = next(
            (s for s in tail.sentences if s[1] - s[0] > 1 or tail.all_words[s[0]] not in BREAKS), None
        )
        if first and first[1] < len(tail.all_words) and task not in _LISTS:
            yield "said first", tail.part(first[0], first[1])
        yield "said", tail
    if marks or "no" in tokens or "but" in tokens:
        for start in _turns(tokens, marks, task):
            yield "turn", whole.part(start, end)


def _turns(text: Sequence[str], marks: Sequence[Hit[str]], task: str) -> list[int]:
    """Return where what follows a conclusion ("so") or a correction ("actually") begins, last first."""
    found = []
    for mark in marks:
        if not mark.first and mark.value == "conclusions":
            continue  # "I would say happy": nothing was said before it
        before = text[mark.first - 1] if mark.first else "."
        if (mark.value == "corrections" and not _denied_before(text, mark.first)) or (
            mark.value == "conclusions"
            and (before in _PAUSES or before in BREAKS or before in ("and", "but"))
        ):
            found.append(mark.end)
    if task != "yesno" and "no" in text:  # "27, no, 26"
        found += [i + 1 for i in range(1, len(text) - 1) if text[i] == "no" and text[i - 1] in _PAUSES
                  and text[i + 1] == ","]  # fmt: skip
    if "but" in text:  # "at first I thought 25, but it is 30"
        found += [i + 1 for i, word in enumerate(text) if word == "but" and _is_second_thought(text, i)]
    return sorted((end for end in set(found) if end < len(text)), reverse=True)[:2]


def _is_second_thought(text: Sequence[str], index: int) -> bool:
    """Say whether what stands before a "but", in its sentence, is a first thought."""
    first = index
    while first and text[first - 1] not in BREAKS:
        first -= 1
    return not _FIRST.isdisjoint(text[first:index])


def _denied_before(text: Sequence[str], index: int) -> bool:
    """Say whether a "not" stands shortly before in the same clause: "not actually happy" corrects nothing."""
    for word in reversed(text[max(0, index - 3) : index]):
        if word in CLAUSE_BREAKS:
            return False
        if word in ("not", "no", "never", "without"):
            return True
    return False


def _refuses(text: Sequence[str], hit: Hit[bool], end: int) -> bool:
    """Say whether a phrase refuses; "can't see any glasses" and "unable to hide her joy" do not."""
    if not _HIDING.isdisjoint(text[hit.end : min(hit.end + 2, end)]):
        return False
    at = hit.first
    return not (
        text[at] == "can"
        and at + 3 < end
        and text[at + 1] == "not"
        and text[at + 2] in _SEEN
        and text[at + 3] in _ANY
        and _PICTURES.isdisjoint(text[at + 4 : min(at + 6, end)])
    )


def _built(text: Sequence[str], first: int, end: int) -> tuple[int, int] | None:
    """Return where a sentence refuses by its build: "do not", adverbs, and a verb such as "estimate"."""
    for index in range(first + 1, end):
        if text[index] != "not" or text[index - 1] not in words("refusal", "auxiliaries"):
            continue
        at = index + 1
        while at < end and (text[at].endswith("ly") or text[at] in words("refusal", "between")):
            at += 1
        if at < end and text[at] in words("refusal", "verbs"):
            return index - 1, at + 1
        if (
            at + 1 < end
            and text[at] in words("refusal", "gives")
            and not words("refusal", "enough").isdisjoint(text[at + 1 : min(at + 3, end)])
        ):
            return index - 1, at + 2
    return None


def _conceded(text: Sequence[str], index: int, first: int) -> int:
    """Return where the clause of a refusal begins that something was said before: "male, though ..."."""
    while index > first and text[index - 1] not in ("though", "although", "but", "however"):
        index -= 1
    return index


def _begins(text: Sequence[str], index: int, first: int) -> int:
    """Return where the clause that refuses begins, in the sentence that begins at ``first``."""
    while index > first and text[index - 1] not in CLAUSE_BREAKS and text[index - 1] not in _AFTER_CLAUSES:
        index -= 1
    return index


def _resumes(text: Sequence[str], after: int, end: int) -> int:
    """Return where, after a refusal, an answer begins all the same; else where the sentence ends."""
    resume, opener = phrases("refusal", "resume"), words("refusal", "resume_after_comma")
    for index in range(after, end):
        word = text[index]
        if word in resume.starts and resume.at(text, index):
            return index
        if text[index - 1] in _CLAUSE_ENDS and (word in opener or word[0].isdigit()):
            return index
    return end
