"""Many questions in one reading: each picture's trunk is read once, and all questions branch off from it.

The result is that of asking each question in a sequence of its own; only the work that they share is done
once: the trunk, and how questions begin where they begin alike. Language models that cannot run on our
attention are asked question by question, in :mod:`facemllm.model.plain`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from facemllm.language.kernels import Pack, marker
from facemllm.model.branches import Branches
from facemllm.model.last_layer import without_trunk
from facemllm.model.packing import Split, split
from facemllm.model.passes import BranchPass, FirstPass, KeysAndValues, NextTokens
from facemllm.model.trunk_cache import view_key, weights_key
from facemllm.model.vision import View
from facemllm.processing.template import IGNORE, Encoded


@dataclass(frozen=True)
class Generated:
    """One generated answer.

    Attributes:
        ids: Tokens up to and with the end of turn, if it was reached.
        logprobs: The log-probability of each.
    """

    ids: list[int]
    logprobs: list[float]


@torch.inference_mode()
def generate(
    model: Any, views: Sequence[View], cut: Split, *, max_new_tokens: int, batch_size: int
) -> list[list[Generated]]:
    """Answer K questions about each of V pictures greedily; returns V lists of K answers.

    Args:
        model: A FaceMLLM.
        views: The pictures.
        cut: The prompts, the same for each picture.
        max_new_tokens: Longest answer, in tokens.
        batch_size: About how many answers are generated together.
    """
    answers: list[list[Generated]] = [[] for _ in views]
    stops = model.checked_processor().stop_ids()
    for first in range(0, len(cut.branches), batch_size):
        questions = cut.branches[first : first + batch_size]
        rows = max(1, batch_size // len(questions))
        for start in range(0, len(views), rows):
            chunk = list(range(start, min(start + rows, len(views))))
            found = _greedy(model, [views[i] for i in chunk], cut.trunk, questions, max_new_tokens, stops)
            for index, of_view in zip(chunk, found, strict=True):
                answers[index] += of_view
    return answers


@torch.inference_mode()
def first_logits(model: Any, views: Sequence[View], cut: Split) -> Tensor:
    """Return the logits of the first answer token of K prompts about each of B pictures [B, K, V]."""
    branches = Branches(cut.branches)
    return _read(model, views, cut.trunk, branches, branches.ends)[0]


def likelihoods(
    model: Any, views: Sequence[View], answered: Sequence[Sequence[Encoded]], *, batch_size: int
) -> list[list[list[float]]]:
    """Return, for each picture and question, the log-likelihood of each option.

    Questions and options are one tree: what they begin with alike is computed once.

    Args:
        model: A FaceMLLM.
        views: The pictures.
        answered: For each question, its prompt with each option as the answer.
        batch_size: About how many questions are read together.
    """
    scores: list[list[list[float]]] = [[] for _ in views]
    for first in range(0, len(answered), batch_size):
        questions = answered[first : first + batch_size]
        prompts = [prompt for options in questions for prompt in options]
        cut = split(prompts)
        assert cut is not None
        branches, start = Branches(cut.branches), len(cut.trunk)
        learnt = [
            [
                (path[i - 1], path_token)
                for i, path_token in enumerate(own)
                if prompt.labels[start + i] != IGNORE
            ]
            for prompt, own, path in zip(prompts, cut.branches, branches.paths, strict=True)
        ]
        nodes = sorted({node for pairs in learnt for node, _ in pairs})  # behind which a token is scored
        place = {node: number for number, node in enumerate(nodes)}
        rows = max(1, batch_size // len(questions))
        for at in range(0, len(views), rows):
            logits = _read(model, views[at : at + rows], cut.trunk, branches, nodes)[0]
            for view, logprobs in enumerate(logits.float().log_softmax(-1).cpu(), at):  # [S', V] each
                of_prompts = iter(
                    [float(sum(logprobs[place[node], token] for node, token in pairs)) for pairs in learnt]
                )
                scores[view] += [[next(of_prompts) for _ in options] for options in questions]
    return scores


def _greedy(
    model: Any,
    views: Sequence[View],
    trunk_ids: tuple[int, ...],
    questions: Sequence[tuple[int, ...]],
    max_new_tokens: int,
    stops: Sequence[int],
) -> list[list[Generated]]:
    branches = Branches(questions)
    logits, trunk, own = _read(model, views, trunk_ids, branches, branches.ends)
    rows, count = len(views), len(questions)
    positions = trunk.length + torch.tensor(branches.lengths, device=model.device)  # [K]
    is_stop = torch.zeros(logits.shape[-1], dtype=torch.bool, device=model.device)
    is_stop[list(stops)] = True
    answers = [[Generated([], []) for _ in questions] for _ in views]
    columns = torch.arange(count, device=model.device)  # the questions that are still being answered
    done = torch.zeros(rows, count, dtype=torch.bool, device=model.device)
    following: NextTokens | None = None
    for step in range(max_new_tokens):
        logprobs, chosen = logits.float().log_softmax(-1).max(-1)  # [B, K'] each
        for row, (ids, scores, finished) in enumerate(
            zip(chosen.tolist(), logprobs.tolist(), done.tolist(), strict=True)
        ):
            for column, token, score, over in zip(columns.tolist(), ids, scores, finished, strict=True):
                if not over:
                    answers[row][column].ids.append(token)
                    answers[row][column].logprobs.append(score)
        done |= is_stop[chosen]
        if bool(done.all()) or step == max_new_tokens - 1:
            break
        if following is None:
            following = NextTokens(trunk, own, branches)
        running = torch.nonzero(~done.all(0)).flatten()
        if len(running) < len(columns):
            columns, done, chosen = columns[running], done[:, running], chosen[:, running]
            following.keep_only(running)
        following.advance()
        embeds = model.get_input_embeddings()(chosen)
        logits = _run(model, embeds, positions[columns] + step, following, 0)
    return answers


def _read(
    model: Any,
    views: Sequence[View],
    trunk_ids: tuple[int, ...],
    branches: Branches,
    keep: Sequence[int],
) -> tuple[Tensor, KeysAndValues, KeysAndValues]:
    """Read trunk and branches of B pictures, the trunk from the cache where it is there.

    Args:
        model: A FaceMLLM.
        views: The pictures.
        trunk_ids: Ids of the trunk [T].
        branches: What follows, S tokens.
        keep: Which of the branches' tokens logits are wanted of [K].

    Returns:
        Logits [B, K, V], keys and values of the trunk, and those of the branches.
    """
    keys = _keys(model, views, trunk_ids)
    cached = [model.trunk_cache.get(key) for key in keys]
    row = torch.tensor(branches.tokens, device=model.device).expand(len(views), -1)
    embeds = model.get_input_embeddings()(row)
    length = len(trunk_ids)
    # Counted from the end, as a reading returns all rows or those of the branches.
    wanted = torch.tensor(keep, device=model.device) - branches.total
    positions = branches.positions(length).to(model.device)
    if not any(cached):
        first = FirstPass(length, branches)
        whole = torch.cat([_trunk_embeddings(model, views, trunk_ids), embeds], 1)
        positions = torch.cat([torch.arange(length, device=model.device), positions])
        with without_trunk(model.language_model, first):
            logits = _run(model, whole, positions, first, wanted)
        trunk = KeysAndValues.of(first.of_trunk)
        _keep(model, keys, trunk)
        return logits, trunk, KeysAndValues.of(first.of_branches)
    missing = [index for index, found in enumerate(cached) if found is None]
    if missing:
        reading = FirstPass(length, None)
        start = torch.arange(length, device=model.device)
        with without_trunk(model.language_model, reading):
            _run(model, _trunk_embeddings(model, [views[i] for i in missing], trunk_ids), start, reading, 1)
        fresh = KeysAndValues.of(reading.of_trunk)
        _keep(model, [keys[i] for i in missing], fresh)
        for place, index in enumerate(missing):
            cached[index] = fresh.row(place)
    trunk = KeysAndValues.stack([found for found in cached if found is not None])
    on_trunk = BranchPass(trunk, branches)
    logits = _run(model, embeds, positions, on_trunk, wanted)
    return logits, trunk, KeysAndValues.of(on_trunk.of_branches)


def _keys(model: Any, views: Sequence[View], trunk_ids: tuple[int, ...]) -> list[Hashable]:
    if not model.trunk_cache.max_bytes:
        return [None] * len(views)
    weights = weights_key(model)
    return [(view_key(view), trunk_ids, weights) for view in views]


def _keep(model: Any, keys: Sequence[Hashable], trunk: KeysAndValues) -> None:
    if trunk.nbytes // len(keys) <= model.trunk_cache.max_bytes:
        for index, key in enumerate(keys):
            model.trunk_cache.put(key, trunk.row(index))


def _trunk_embeddings(model: Any, views: Sequence[View], trunk_ids: tuple[int, ...]) -> Tensor:
    ids = torch.tensor(trunk_ids, device=model.device).expand(len(views), -1)
    return model.embed(ids, encoder_features=model.encode([view.crop for view in views]))[0]


def _run(model: Any, embeds: Tensor, positions: Tensor, pack: Pack, keep: Tensor | int) -> Tensor:
    """Run the language model on rows of embeddings [B, L, D] that attend as the pack says."""
    logits: Tensor = model.language_model(
        inputs_embeds=embeds,
        attention_mask=marker(embeds),
        position_ids=positions.expand(embeds.shape[0], -1),
        use_cache=False,
        logits_to_keep=keep,
        pack=pack,
        return_dict=True,
    ).logits
    return logits
