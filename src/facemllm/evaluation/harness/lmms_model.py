"""FaceMLLM as a model of lmms-eval: ``lmms-eval --model facemllm --model_args pretrained=facemllm-tiny``.

lmms-eval finds it through the entry point ``lmms_eval.models`` that this package declares. Its questions
about one picture are put together, so that the picture is read once however many tasks ask about it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from facemllm.core.errors import ConfigError, MissingExtraError

try:
    from lmms_eval.api.model import lmms as _Base
except ModuleNotFoundError:  # the harness need not be there for the class to be looked at, or tested
    _Base = object  # type: ignore[assignment,misc,unused-ignore]

_CLASS = "facemllm.evaluation.harness.lmms_model.FaceMLLMForLMMS"


def manifest() -> Any:
    """Return what lmms-eval registers: the name ``facemllm`` and where its class is.

    Raises:
        MissingExtraError: If lmms-eval is not installed.
    """
    try:
        from lmms_eval.models.registry_v2 import ModelManifest
    except ModuleNotFoundError:
        raise MissingExtraError("lmms-eval", extra="lmms-eval", needed_for="its model registry") from None
    return ModelManifest(model_id="facemllm", simple_class_path=_CLASS)


class FaceMLLMForLMMS(_Base):
    """A FaceMLLM behind the interface of lmms-eval.

    Answers are greedy, as in :meth:`FaceMLLM.ask`: a task that asks for sampling or beams is refused rather
    than answered in another way than it says. One picture a question.

    Args:
        pretrained: Built-in name, folder or hub id; or an object with ``ask`` and ``choose``.
        crop: "face" or "none"; by default the model's own.
        batch_size: How many pictures are read together.
        device: Where the model computes; by default CUDA where there is one.
        max_batch_size: Taken for lmms-eval's sake, and not used.

    Raises:
        ConfigError: If an argument is unknown.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: Any = "facemllm-tiny",
        *,
        crop: str | None = None,
        batch_size: int | str = 1,
        device: str | None = None,
        max_batch_size: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            raise ConfigError(
                "cannot use model_args",
                given=", ".join(sorted(unknown)),
                expected="pretrained, crop, batch_size or device",
                do="correct --model_args",
            )
        import torch

        self._rank, self._world_size = 0, 1
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.accelerator = self._accelerator()
        if isinstance(pretrained, str):
            from facemllm import AutoFaceMLLM

            pretrained = AutoFaceMLLM.from_pretrained(pretrained)
            pretrained.to(self.device)
        self.model = pretrained
        self.options = {"on_no_face": "whole"} | ({"crop": crop} if crop else {})
        self.batch_size = int(batch_size)

    def _accelerator(self) -> Any:
        """Return accelerate's view of the processes where there are several."""
        from accelerate import Accelerator
        from accelerate.utils import get_int_from_env

        if get_int_from_env(["WORLD_SIZE"], 1) < 2:
            return None
        found = Accelerator(cpu=self.device.type == "cpu")
        self._rank, self._world_size, self.device = found.process_index, found.num_processes, found.device
        return found

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answer questions about pictures.

        Raises:
            ConfigError: If a request has no picture or several, or asks for sampling or beams.
        """
        answers: dict[int, str] = {}
        for batch in self._batches(requests):
            for pictures, questions, tokens in _together(batch):
                texts = self.model.ask(
                    [one.picture for one in pictures], questions, max_new_tokens=tokens, **self.options
                )
                said = {
                    (one.key, question): getattr(text, "text", text)
                    for one, row in zip(pictures, texts, strict=True)
                    for question, text in zip(questions, row, strict=True)
                }
                for one in pictures:
                    for index, question, until in one.asked[tokens]:
                        answers[index] = _cut(said[one.key, question], until)
        return [answers[index] for index in range(len(requests))]

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Return for each option its loss and whether the model itself says it.

        lmms-eval takes the option of the smallest loss. Options of one question are read in one pass; the
        loss is the negative logarithm of their probability among each other.

        Raises:
            ConfigError: If a question has one option only: a probability among one is always 1.
        """
        found: dict[int, tuple[float, bool]] = {}
        groups: dict[tuple[Any, ...], list[tuple[int, str]]] = {}
        for index, request in enumerate(requests):
            context, continuation, _, doc, task, split = request.args
            text = (
                continuation if isinstance(continuation, str) else continuation(self._doc(task, split, doc))
            )
            groups.setdefault((task, split, doc, context), []).append((index, str(text).strip()))
        for (task, split, doc, context), options in groups.items():
            texts = list(dict.fromkeys(text for _, text in options))
            if len(texts) < 2:
                raise ConfigError(
                    "cannot tell the likelihood of an answer by itself",
                    given=f"task {task}, one option {texts}",
                    expected="the options of a multiple choice",
                    do="run tasks of the kinds generate_until and multiple_choice",
                )
            picture = _only(requests[options[0][0]].args[2](self._doc(task, split, doc)), task)
            chances = self.model.choose(picture, context, texts, **self.options)
            said = self.model.ask(picture, context, **self.options)
            for index, text in options:
                found[index] = (_loss(chances[text]), getattr(said, "text", said).strip() == text)
        return [found[index] for index in range(len(requests))]

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refuse tasks of several rounds: a FaceMLLM answers questions, it does not converse.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            "cannot run a task of several rounds",
            given=f"{len(requests)} requests",
            expected="tasks of the kinds generate_until and multiple_choice",
            do="leave this task out",
        )

    def _doc(self, task: str, split: str, index: int) -> Any:
        return self.task_dict[task][split][index]

    def _batches(self, requests: Sequence[Any]) -> Iterator[list[_Asked]]:
        """Yield requests by picture, so many pictures at a time, in the order in which they come."""
        batch: dict[Hashable, _Asked] = {}
        for index, request in enumerate(requests):
            question, options, to_visual, doc, task, split = request.args
            picture = _only(to_visual(self._doc(task, split, doc)), task)
            key = _pixels(picture)
            if key not in batch and len(batch) == self.batch_size:
                yield list(batch.values())
                batch = {}
            tokens, until = _generation(options, task)
            asked = batch.setdefault(key, _Asked(picture, key)).asked
            asked.setdefault(tokens, []).append((index, question, until))
        if batch:
            yield list(batch.values())


class _Asked:
    """A picture, and by the length of answers what is asked about it: place, question, where to stop."""

    def __init__(self, picture: Any, key: Hashable) -> None:
        self.picture, self.key = picture, key
        self.asked: dict[int, list[tuple[int, str, list[str]]]] = {}


def _together(batch: Sequence[_Asked]) -> Iterator[tuple[list[_Asked], list[str], int]]:
    """Yield pictures that are asked the same questions, the questions, and the longest answer."""
    groups: dict[tuple[int, tuple[str, ...]], list[_Asked]] = {}
    for one in batch:
        for tokens, asked in one.asked.items():
            questions = tuple(dict.fromkeys(question for _, question, _ in asked))
            groups.setdefault((tokens, questions), []).append(one)
    for (tokens, questions), pictures in groups.items():
        yield pictures, list(questions), tokens


def _generation(options: dict[str, Any], task: str) -> tuple[int, list[str]]:
    """Return the longest answer and where to stop, from what a task asks for."""
    from facemllm.evaluation.harness.rows import MAX_NEW_TOKENS

    sampled = bool(options.get("do_sample")) and float(options.get("temperature") or 0) > 0
    if sampled or int(options.get("num_beams") or 1) > 1:
        raise ConfigError(
            "cannot answer as the task asks",
            given=f"task {task}: {options}",
            expected="greedy answers (no sampling, one beam)",
            do="pass --gen_kwargs do_sample=False,temperature=0,num_beams=1",
        )
    until = options.get("until") or []
    stops = [until] if isinstance(until, str) else list(until)
    return int(options.get("max_new_tokens") or MAX_NEW_TOKENS), [stop for stop in stops if stop]


def _only(visuals: Any, task: str) -> Any:
    found = list(visuals) if isinstance(visuals, (list, tuple)) else [visuals]
    if len(found) != 1 or found[0] is None:
        raise ConfigError(
            "cannot show these pictures",
            given=f"task {task}: {len([one for one in found if one is not None])} pictures for a question",
            expected="one picture a question",
            do="leave this task out",
        )
    return found[0]


def _pixels(picture: Any) -> Hashable:
    if isinstance(picture, str):
        return picture
    return hashlib.sha256(f"{picture.mode} {picture.size}".encode() + picture.tobytes()).digest()


def _loss(chance: float) -> float:
    import math

    return -math.log(max(chance, 1e-300))


def _cut(text: str, until: Sequence[str]) -> str:
    for stop in until:
        text = text.split(stop)[0]
    return text
