"""The prompt as data: texts, attributes and word lists in a versioned YAML file, and a hash of all of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

from facemllm.annotation.answer import answer_model, schema_of
from facemllm.core.config import StrictModel, load_yaml, validate
from facemllm.core.errors import ConfigError
from facemllm.data.vocabularies import AGE_BINS, ETHNICITIES, EXPRESSIONS, GENDERS

_FOLDER = Path(__file__).parent / "prompts"

EXTRA_LABELS: dict[str, tuple[str, ...]] = {
    "gender": GENDERS, "ethnicity": ETHNICITIES, "age_bin": AGE_BINS, "expression": EXPRESSIONS,
}  # fmt: skip
"""Labels that are asked for only when named. Gender and ethnicity are perceived, not known."""


class PromptFile(StrictModel):
    """A prompt file.

    Attributes:
        version: Raised whenever the file changes.
        language: Of captions.
        system: Who the annotator is.
        user: What is asked; ``{attributes}``, ``{questions}`` and ``{untold}`` are filled in.
        repair: What is said of an answer that cannot be used; ``{error}`` is filled in.
        untold: By extra label, what must not be guessed unless the label is asked for.
        questions: By extra label, how it is asked.
        attributes: By name, what it means.
        frequent_words: Words that captions in the language are full of; empty for no check.
        foreign_words: Common words of other languages that the language does not have.
        refusals: Beginnings of answers that refuse.
        neutral: By extra label, patterns of words that would tell it, and what they become.
        tells: By extra label, patterns of words that tell it and have no neutral counterpart.
        broken: Patterns of what is no sentence of the language.
    """

    version: int
    language: str = "en"
    system: str
    user: str
    repair: str
    untold: dict[str, str] = Field(default_factory=dict)
    questions: dict[str, str] = Field(default_factory=dict)
    attributes: dict[str, str]
    frequent_words: tuple[str, ...] = ()
    foreign_words: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    neutral: dict[str, dict[str, str]] = Field(default_factory=dict)
    tells: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    broken: tuple[str, ...] = ()


class Prompt:
    """A prompt file together with the labels that are asked for.

    Args:
        file: What the file says.
        name: Its name, without ending.
        include: Extra labels to ask for: "gender", "ethnicity", "age_bin", "expression".
        attributes: Only these attributes; None for all of the file.

    Raises:
        ConfigError: If a label or attribute is unknown.

    Example:
        >>> prompt = load_prompt("face")
        >>> len(prompt.attributes), "gender" in prompt.user
        (40, True)
        >>> prompt.user == load_prompt("face").user, prompt.hash == load_prompt("face", ["gender"]).hash
        (True, False)
    """

    def __init__(
        self,
        file: PromptFile,
        name: str,
        include: Collection[str] = (),
        attributes: Collection[str] | None = None,
    ) -> None:
        _known("label", include, EXTRA_LABELS)
        _known("attribute", attributes or (), file.attributes)
        self.file, self.name = file, name
        self.include = tuple(label for label in EXTRA_LABELS if label in set(include))
        chosen = file.attributes if attributes is None else set(attributes)
        self.attributes = tuple(name for name in file.attributes if name in chosen)
        self.answer = answer_model(self.attributes, {label: EXTRA_LABELS[label] for label in self.include})
        self.schema = schema_of(self.answer)

    @property
    def version(self) -> str:
        """Name and version, as records carry it."""
        return f"{self.name}/{self.file.version}"

    @property
    def system(self) -> str:
        """What the annotator is told first."""
        return self.file.system

    @cached_property
    def user(self) -> str:
        """What is asked; the same for every picture, so nothing known of one can be in it."""
        untold = " ".join(text for label, text in self.file.untold.items() if label not in self.include)
        listed = "\n".join(f"  {name}: {self.file.attributes[name]}" for name in self.attributes)
        asked = "".join(
            f"\n\n{self.file.questions.get(label, label)}: one of {', '.join(EXTRA_LABELS[label])}, or "
            "not visible"
            for label in self.include
        )
        return self.file.user.format(untold=untold, attributes=listed, questions=asked)

    def repair(self, error: str) -> str:
        """Return what is said of an answer that cannot be used."""
        return self.file.repair.format(error=error)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of everything an annotator may be told and every rule its answer is held to."""
        what = {
            "file": self.file.model_dump(),
            "include": self.include,
            "attributes": self.attributes,
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def load_prompt(
    prompt: str | os.PathLike[str] | Prompt = "face",
    include: Collection[str] = (),
    attributes: Collection[str] | None = None,
) -> Prompt:
    """Read a prompt by name or from a YAML file, or return the instance given.

    Raises:
        ConfigError: If there is no such file, it has unknown keys, or a label or attribute is unknown.
    """
    if isinstance(prompt, Prompt):
        return prompt
    path = Path(prompt)
    if path.suffix not in (".yaml", ".yml"):
        path = _FOLDER / f"{os.fspath(prompt)}.yaml"
        if not path.is_file():
            raise ConfigError(
                f"unknown prompt {os.fspath(prompt)!r}",
                given=os.fspath(prompt),
                expected=f"one of {', '.join(sorted(p.stem for p in _FOLDER.glob('*.yaml')))}, or a file",
                do="check the name",
            )
    return Prompt(validate(PromptFile, load_yaml(path), source=path.name), path.stem, include, attributes)


def _known(kind: str, names: Collection[str], known: Any) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ConfigError(
            f"unknown {kind}{'s' * (len(unknown) > 1)} to ask for",
            given=", ".join(unknown),
            expected=", ".join(known),
            do="correct the name, or write a prompt file of your own",
        )
