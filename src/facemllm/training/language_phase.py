"""A small language model from the text of questions, answers and captions alone."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

from torch import Tensor, nn

from facemllm.core.errors import TrainingError
from facemllm.data import Dataset, write_questions, write_unknown
from facemllm.language import LanguageModel, tiny_language_model
from facemllm.processing.processor import FaceProcessor
from facemllm.processing.template import IGNORE
from facemllm.training.checkpoints import Checkpoints
from facemllm.training.loop import run_steps
from facemllm.training.losses import shifted, token_losses
from facemllm.training.parallel import Processes
from facemllm.training.progress import RunLog
from facemllm.training.questions import question_of
from facemllm.training.recipe import LanguagePhase


def write_texts(
    datasets: list[Dataset], count: int, tasks: tuple[str, ...], seed: int
) -> list[tuple[str, str]]:
    """Write question-answer pairs for random samples.

    A text-only pair has no picture, so its answer is a guess: what is learnt is which answers fit a question.
    """
    rng = random.Random(f"{seed}/texts")
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        if rng.random() < 0.1:
            written = [write_unknown(rng, "train", tasks)]
        else:
            sample = rng.choice(rng.choice(datasets).samples)
            # Described on its own: naming gender or ethnicity beside it would put them into descriptions.
            written = write_questions(sample, rng, tasks) + write_questions(sample, rng, ["description"])
        pairs += [(question_of(qa, rng), qa.answer) for qa in rng.sample(written, min(3, len(written)))]
    return pairs[:count]


def make_language_model(
    phase: LanguagePhase,
    datasets: list[Dataset],
    *,
    tasks: tuple[str, ...],
    folder: Path,
    seed: int,
    log: RunLog,
    progress: bool = True,
) -> LanguageModel:
    """Train a tokenizer and a small causal LM on written texts, or read them from ``folder``.

    Args:
        phase: Sizes and steps.
        datasets: Labels to write texts from; no picture is opened.
        tasks: Tasks to write about.
        folder: Where checkpoints are kept.
        seed: Of texts and weights.
        log: Takes the losses.
        progress: Whether to show a bar.

    Raises:
        TrainingError: If ``folder`` holds a phase that was begun with other texts.
    """
    pairs = write_texts(datasets, phase.texts, tasks, seed)
    llm = tiny_language_model(
        [f"{question}\n{answer}" for question, answer in pairs],
        hidden_size=phase.hidden_size,
        layers=phase.layers,
        heads=phase.heads,
        vocab_size=phase.vocab_size,
        seed=seed,
    )
    digest = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
    _check_texts(folder / "checkpoint", digest)
    processor, processes = FaceProcessor(llm.tokenizer), Processes()

    def loss_of(model: nn.Module, step: int) -> Tensor:
        chosen = random.Random(f"{seed}/language/{step}").choices(pairs, k=phase.batch_size)
        encoded = [processor.encode_qa(question, answer, images=0) for question, answer in chosen]
        # All processes choose the same texts, and each computes its own of them: see training/sharing.py.
        own = encoded[processes.rank :: processes.count]
        batch = processor.pad(own or encoded[:1], with_labels=True, left=False)
        # The question is language too: here, unlike in the stages, every token but padding is learnt.
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORE)
        predictors, targets = (part.to(processes.device) for part in shifted(labels))
        inputs = {key: batch[key].to(processes.device) for key in ("input_ids", "attention_mask")}
        losses = token_losses(model(**inputs).logits.flatten(0, 1)[predictors], targets)
        tokens = sum(len(text) - 1 for text in encoded)  # nothing predicts a text's first one
        return losses.sum() / tokens * (processes.count if own else 0)

    llm.model.train()
    run_steps(
        llm.model,
        loss_of,
        name="language",
        groups=[{"params": list(llm.model.parameters()), "lr": phase.lr}],
        steps=phase.steps,
        folder=folder / "checkpoint",
        log=log,
        seed=seed,
        extra={"texts": digest},
        progress=progress,
        shared=True,
    )
    llm.model.eval()
    return llm


def _check_texts(folder: Path, digest: str) -> None:
    """Refuse to go on with other texts: they make another tokenizer, whose ids the weights do not know."""
    kept = Checkpoints(folder).peek()
    if kept is not None and kept.get("texts") != digest:
        raise TrainingError(
            "the texts are not those that the language model was trained on",
            given=f"{folder}, begun with other labels or with another release of facemllm",
            expected="the same texts, as they make the tokenizer",
            do="resume with what the run was begun with, or begin anew in another folder",
        )
