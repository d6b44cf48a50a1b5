"""A causal language model with its tokenizer, as the rest of the library sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from facemllm.core.errors import CheckpointError


@dataclass(frozen=True)
class LanguageModel:
    """A transformers causal LM (or a peft model around one) and its tokenizer.

    Args:
        model: The model; it may be wrapped by peft.
        tokenizer: A fast transformers tokenizer with a chat template.
        lora: What LoRA attached itself to, if it did.

    Raises:
        CheckpointError: If the tokenizer has more tokens than the model has embeddings.
    """

    model: Any
    tokenizer: Any
    lora: LoraReport | None = None

    def __post_init__(self) -> None:
        rows = self.model.get_input_embeddings().num_embeddings
        if len(self.tokenizer) > rows:
            raise CheckpointError(
                "tokenizer and language model do not fit",
                given=f"{len(self.tokenizer)} tokens, {rows} embeddings",
                expected="an embedding for each token",
                do="call model.resize_token_embeddings(len(tokenizer)), or load both from one place",
            )

    @property
    def embed_dim(self) -> int:
        """D, the width of the token embeddings."""
        return int(self.model.get_input_embeddings().embedding_dim)


@dataclass(frozen=True)
class LoraReport:
    """What LoRA attached itself to.

    Args:
        matched: Number of modules that each target pattern matched.
        trainable: Number of LoRA weights.
        total: Number of weights, those of LoRA included.
    """

    matched: dict[str, int]
    trainable: int
    total: int

    def __str__(self) -> str:
        parts = ", ".join(f"{pattern} x{count}" for pattern, count in self.matched.items())
        return f"LoRA on {parts}: {self.trainable:,} of {self.total:,} weights train"
