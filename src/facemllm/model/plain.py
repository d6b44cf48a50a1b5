"""Asking question by question: each a sequence of its own, in padded batches.

For language models that cannot run on our attention, and what :mod:`facemllm.model.engine` is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from facemllm.model.engine import Generated
from facemllm.processing.template import IGNORE, Encoded


def generate(
    model: Any, features: Tensor, prompts: Sequence[Encoded], *, max_new_tokens: int, batch_size: int
) -> list[list[Generated]]:
    """Answer K prompts about each of V pictures by ``model.generate``, greedily.

    Args:
        model: A FaceMLLM.
        features: The encoder's output for the pictures [V, N, D].
        prompts: The same for each picture.
        max_new_tokens: Longest answer, in tokens.
        batch_size: How many answers are generated together.
    """
    processor = model.checked_processor()
    tokenizer, stops = processor.tokenizer, processor.stop_ids()
    pairs = [(view, prompt) for view in range(len(features)) for prompt in prompts]
    answers: list[list[Generated]] = [[] for _ in features]
    for start in range(0, len(pairs), batch_size):
        chunk = pairs[start : start + batch_size]
        batch = processor.pad([prompt for _, prompt in chunk], with_labels=False, left=True)
        output = model.generate(
            **{key: value.to(model.device) for key, value in batch.items()},
            encoder_features=features[[view for view, _ in chunk]],
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=stops,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0],
            return_dict_in_generate=True,
            output_logits=True,
        )
        new = output.sequences[:, batch["input_ids"].shape[1] :]
        logprobs = torch.stack([step.float().log_softmax(-1) for step in output.logits], dim=1)
        chosen = logprobs.gather(2, new.unsqueeze(2)).squeeze(2)
        for (view, _), ids, scores in zip(chunk, new.tolist(), chosen.tolist(), strict=True):
            end = next((i + 1 for i, token in enumerate(ids) if token in stops), len(ids))
            answers[view].append(Generated(ids[:end], scores[:end]))
    return answers


def likelihoods(model: Any, features: Tensor, options: Sequence[Encoded]) -> list[list[float]]:
    """Return, for each of V pictures, the log-likelihood of each answered prompt."""
    processor = model.checked_processor()
    batch = {k: v.to(model.device) for k, v in processor.pad(options, with_labels=True, left=False).items()}
    labels = batch.pop("labels")[:, 1:]
    scores = []
    for feature in features:
        logits = model(**batch, encoder_features=feature.expand(len(options), -1, -1)).logits[:, :-1].float()
        picked = torch.gather(logits.log_softmax(-1), 2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)
        scores.append(picked.masked_fill(labels == IGNORE, 0).sum(1).tolist())
    return scores
