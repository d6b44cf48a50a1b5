"""Zero-shot attributes: which are held out of training is part of a protocol file, and is checked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field, model_validator

from facemllm.core.config import StrictModel, load_yaml, validate
from facemllm.core.errors import ConfigError
from facemllm.data import FaceSample
from facemllm.data.attributes import slots
from facemllm.data.phrasings import question_set, usable
from facemllm.data.vocabularies import CELEBA_ATTRIBUTES
from facemllm.evaluation.tasks import EvalTask, Question

_FOLDER = Path(__file__).parent / "data" / "protocols"
_COMPLETE = {"celeba": frozenset(CELEBA_ATTRIBUTES.labels)}
"""Datasets whose every attribute must be on one side or the other."""


class Protocol(StrictModel):
    """What is seen in training, what is not, and how it is asked.

    Attributes:
        name: Part of every score.
        version: Raised when anything below changes.
        dataset: The dataset it cuts, or any name for a list of one's own.
        question: The wording, with the slots of ``questions/attributes.yaml``; it must not be trained on.
        seen: Attributes that training may ask about.
        unseen: Attributes that training must never ask about.
        related: Unseen attribute to seen ones that give it away in part.
        not_asked: Attributes that are not measured.

    Example:
        >>> protocol = load_protocol("celeba-zero-shot")
        >>> len(protocol.seen), len(protocol.unseen)
        (28, 12)
        >>> protocol.ask("wearing_hat")
        'From what you can see, is the person wearing a hat?'
    """

    name: str
    version: int
    dataset: str
    question: str
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    related: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    not_asked: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Protocol:
        every = [*self.seen, *self.unseen]
        twice = sorted({name for name in every if every.count(name) > 1})
        if twice:
            raise ValueError(f"attributes must be seen or unseen, not both or twice: {', '.join(twice)}")
        if not self.unseen:
            raise ValueError("unseen must name at least one attribute")
        whole = _COMPLETE.get(self.dataset)
        if whole is not None and set(every) != whole:
            wrong = sorted(whole.symmetric_difference(every))
            raise ValueError(
                f"seen and unseen must be the attributes of {self.dataset}; differ in: {', '.join(wrong)}"
            )
        stray = [name for name in self.related if name not in self.unseen]
        stray += [name for names in self.related.values() for name in names if name not in self.seen]
        stray += [name for name in self.not_asked if name not in every]
        if stray:
            raise ValueError(
                f"related and not_asked must name attributes of the protocol: {', '.join(stray)}"
            )
        trained = {phrasing.text for phrasing in usable(question_set("attributes").yes_no, "train")}
        if self.question in trained:
            raise ValueError(f"question must not be one that is trained on: {self.question!r}")
        return self

    def ask(self, attribute: str) -> str:
        """Return the question about an attribute."""
        return self.question.format(**slots(attribute))

    def part(self, attribute: str) -> str:
        """Return "seen" or "unseen"."""
        return "unseen" if attribute in self.unseen else "seen"

    def check_training(self, trained: Iterable[str]) -> None:
        """Refuse a model that was trained on what it must not have seen.

        Raises:
            ConfigError: If an unseen attribute was trained on.
        """
        leaked = sorted(set(trained) & set(self.unseen))
        if leaked:
            raise ConfigError(
                f"training asked about attributes that {self.name} holds out",
                given=", ".join(leaked),
                expected="none of the unseen attributes",
                do="train without them, or measure without the protocol",
            )

    def task(self, samples: Iterable[FaceSample]) -> EvalTask:
        """Return the task that asks about the protocol's attributes.

        Raises:
            ConfigError: If no sample is labelled with an unseen attribute.
        """
        labelled = {key for sample in samples for key in sample.labels.get("attributes", {})}
        asked = [
            name for name in (*self.seen, *self.unseen) if name in labelled and name not in self.not_asked
        ]
        if not set(asked) & set(self.unseen):
            raise ConfigError(
                f"dataset does not support the protocol {self.name}",
                given=f"labels for {', '.join(sorted(labelled)) or 'no attributes'}",
                expected=f"labels for some of {', '.join(self.unseen)}",
                do="choose another dataset or protocol",
            )
        notes = [f"Protocol {self.name}, version {self.version}; asked in words that training does not use."]
        notes += [
            f"{name} is unseen, but {', '.join(seen)} says part of it." for name, seen in self.related.items()
        ]
        questions = tuple(Question(self.ask(name), name) for name in asked)
        return EvalTask("attributes", "attributes", "yesno", questions, ("yes", "no"), tuple(notes))


def load_protocol(protocol: str | Path | Protocol) -> Protocol:
    """Return a protocol by the name of a built-in file, from a YAML file, or itself.

    Raises:
        ConfigError: If there is no such file, or it is not a protocol.
    """
    if isinstance(protocol, Protocol):
        return protocol
    path = _FOLDER / f"{protocol}.yaml"
    if not path.is_file():
        path = Path(protocol)
    if not path.is_file():
        raise ConfigError(
            "no such protocol",
            given=str(protocol),
            expected=f"a YAML file, or one of {', '.join(sorted(p.stem for p in _FOLDER.glob('*.yaml')))}",
            do="correct the name",
        )
    return validate(Protocol, load_yaml(path), source=path.name)
