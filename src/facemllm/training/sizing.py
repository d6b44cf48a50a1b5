"""What a stage takes: memory counted on meta tensors, arithmetic by formula.

Weights, gradients and the optimiser's state are counted from the parameters that a stage trains.
Activations are *measured*: the forward pass runs on torch's meta device, and every tensor that autograd
would keep for the backward pass is counted once, in its own dtype. No memory is needed for that, and it
takes seconds for billions of weights.

Source: formulas of arithmetic as in Kaplan et al., arXiv 2001.08361, section 2.1 (2 operations a weight and
token forward; here the backward pass is split into its halves: frozen weights need only one of them).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from facemllm.language.kernels import marker
from facemllm.model import FaceMLLM
from facemllm.training.freezing import select
from facemllm.training.precision import hold
from facemllm.training.recipe import Stage

PROMPT, PAIR, CAPTION = 32, 28, 48
"""Tokens of text: before the questions, of a question with its answer, of a caption (SmolLM2's tokenizer)."""


@dataclass(frozen=True)
class StageSize:
    """What one device needs for its share of a stage's step.

    Attributes:
        weights: All weights, in bytes as the stage holds them, and autocast's copies of those that train.
        gradients: Bytes of the trained weights' gradients.
        optimizer: Bytes of AdamW's moments.
        activations: Bytes kept for the backward pass.
        checkpointed: The same with activation checkpointing of the language model's layers.
        largest: Bytes of the largest layer's weights in bfloat16: what FSDP gathers at a time.
        tokens: Tokens of the share.
        operations: Floating-point operations of the share, forward and backward.
        parameters: Weights in all.
        trained: Weights that train.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    checkpointed: int
    largest: int
    tokens: int
    operations: float
    parameters: int
    trained: int

    def ddp(self) -> int:
        """Return the bytes of a device that holds everything."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def fsdp(self, devices: int) -> int:
        """Return the bytes of one of so many devices that share weights, gradients and moments."""
        shared = self.weights + self.gradients + self.optimizer
        # A layer in use and the next one on its way.
        return -(-shared // devices) + 2 * self.largest + self.checkpointed


def size_stage(model: FaceMLLM, stage: Stage, *, devices: int = 1) -> StageSize:
    """Count what a stage needs on each of ``devices``.

    Args:
        model: On the meta device, see :func:`~facemllm.training.shapes.build_on_meta`.
        stage: Its batch is shared among the devices.
        devices: How many.

    Example:
        >>> from facemllm.training import ThreeStageRecipe, build_on_meta
        >>> recipe = ThreeStageRecipe.load("tiny")
        >>> size = size_stage(build_on_meta(recipe), recipe.stages[0])
        >>> size.trained, size.gradients == 4 * size.trained
        (135552, True)
    """
    selection = select(model, stage.train)
    hold(model, selection, stage)
    faces, length, answers = rows_of(stage, model.config.image_tokens, devices)
    parameters = {id(p): p for p in model.parameters()}.values()
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    total = sum(p.numel() for p in parameters)
    layers = _layers(model)
    run = (model, faces, length, answers)
    activations = kept_for_backward(*run)
    checkpointed = kept_for_backward(*run, checkpointing=True)
    return StageSize(
        weights=sum(p.nbytes for p in parameters) + _copies(model, stage),
        gradients=4 * trained,
        optimizer=8 * trained,
        activations=activations,
        # While a layer is done again, what it keeps is there beside what was kept of all.
        checkpointed=min(checkpointed + activations // max(len(layers), 1), activations),
        largest=2 * max(sum(p.numel() for p in layer.parameters()) for layer in layers),
        tokens=faces * length,
        operations=operations(model, faces, length, answers),
        parameters=total,
        trained=trained,
    )


def rows_of(stage: Stage, image_tokens: int, devices: int) -> tuple[int, int, int]:
    """Return faces on a device, tokens of each with its pairs, and how many of these are learnt.

    A face and its pairs count as one row, so attention from a pair to the pairs before it, which trunk and
    branches do not compute, is counted: a bound from above.

    Example:
        >>> from facemllm.training import ThreeStageRecipe
        >>> rows_of(ThreeStageRecipe.load("tiny").stages[1], 9, 1)
        (32, 153, 16)
    """
    captions = stage.ask == "captions"
    pairs = 1 if captions else min(stage.questions_per_image, stage.batch_size)
    faces = max(1, round(stage.batch_size / pairs / devices))
    return (
        faces,
        image_tokens + PROMPT + (CAPTION if captions else pairs * PAIR),
        pairs * (40 if captions else 4),
    )


def kept_for_backward(
    model: FaceMLLM, faces: int, length: int, answers: int, *, checkpointing: bool = False
) -> int:
    """Return the bytes that autograd keeps of one forward pass in bfloat16, weights left out.

    Args:
        model: On any device; on ``meta``, nothing is computed. It is copied, and left as it is.
        faces: Rows B.
        length: Tokens L of a row, those of the face included.
        answers: Tokens of a row that are learnt.
        checkpointing: Whether the language model's layers keep their inputs alone.
    """
    import copy

    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(_NAME, _fused_attention)
    AttentionMaskInterface.register(_NAME, AttentionMaskInterface()["sdpa"])
    copied: Any = copy.deepcopy(model)
    copied.to(torch.bfloat16).train()
    llm, device = copied.language_model, copied.device
    base = llm.get_base_model() if hasattr(llm, "get_base_model") else llm
    base.set_attn_implementation(_NAME)
    if checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    weights = {tensor.untyped_storage()._cdata for tensor in [*copied.parameters(), *copied.buffers()]}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in weights:
            kept[storage] = tensor  # held, so that no later tensor gets its place
        return tensor

    side, width = copied.encoder.image_size, llm.get_input_embeddings().embedding_dim
    made: dict[str, Any] = {"device": device, "dtype": torch.bfloat16}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        seen = copied.connector(copied.encoder(torch.zeros(faces, 3, side, side, **made)))
        text = torch.zeros(faces, length - seen.shape[1], width, **made)
        output = llm(
            inputs_embeds=torch.cat([seen, text], 1),
            attention_mask=marker(seen),  # causal: see _fused_attention
            position_ids=torch.arange(length, device=device)[None],
            logits_to_keep=torch.arange(length - answers, length, device=device),
            use_cache=False,
        )
        targets = torch.zeros(faces * answers, dtype=torch.long, device=device)
        nn.functional.cross_entropy(output.logits.flatten(0, 1).float(), targets)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


class _Fused(torch.autograd.Function):
    """What a fused attention kernel keeps: its inputs, its output, and a number for each query and head."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return a tensor of the right shape; its values are of no matter."""
        out = torch.zeros_like(q)
        ctx.save_for_backward(q, k, v, out, torch.zeros(q.shape[:-1], device=q.device))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Never run: sizes are known after the forward pass."""
        raise NotImplementedError


_NAME = "facemllm-sizing"


def _fused_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any
) -> tuple[Tensor, None]:
    out: Tensor = _Fused.apply(query, key, value)  # type: ignore[no-untyped-call]
    return out.transpose(1, 2).contiguous(), None


def operations(model: FaceMLLM, faces: int, length: int, answers: int) -> float:
    """Return floating-point operations of a step: forward, and of backward what the trained parts need.

    A frozen encoder is counted forward; with cached features it costs nothing.
    """
    tokens = faces * length
    head: Any = model.get_output_embeddings()
    inputs: Any = model.get_input_embeddings()
    vocabulary = head.weight.numel() if head is not None else 0
    table = inputs.weight.numel()
    tied = head is not None and head.weight is inputs.weight
    body = list(_weights(model.language_model))
    inside = sum(p.numel() for p in body) - table - (0 if tied else vocabulary)
    learnt = sum(p.numel() for p in body if p.requires_grad)
    encoder = sum(p.numel() for p in model.encoder.parameters())
    encoder_learns = any(p.requires_grad for p in model.encoder.parameters())
    connector = sum(p.numel() for p in model.connector.parameters())
    config = getattr(model.language_model, "config", None)
    width = int(inputs.embedding_dim)
    attention = 2 * int(getattr(config, "num_hidden_layers", 0)) * width * length  # causal: half of all pairs
    forward = 2 * inside * tokens + 2 * vocabulary * faces * answers + attention * tokens
    seen = faces * (model.encoder.num_tokens + 1)
    return float(
        2 * forward  # forward, and gradients of activations: the connector is before all layers
        + 2 * learnt * tokens
        + (3 if encoder_learns else 1) * 2 * encoder * seen
        + 3 * 2 * connector * seen
    )


def _copies(model: FaceMLLM, stage: Stage) -> int:
    """Return the bytes of autocast's bfloat16 copies of what trains."""
    return sum(
        2 * parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and (stage.halved or stage.precisions.get(name.partition(".")[0]) == "bfloat16")
    )


def _weights(module: Any) -> Iterable[nn.Parameter]:
    return {id(p): p for p in module.parameters()}.values()


def _layers(model: FaceMLLM) -> list[nn.Module]:
    """Return the blocks of the language model: the longest list of modules in it."""
    lists = [list(m) for m in model.language_model.modules() if isinstance(m, nn.ModuleList)]
    return max(lists, key=len)
