"""LoRA through peft, with a target that matches nothing being an error.

Adapters are peft's own: what ``model.save_pretrained`` writes, stock peft loads.

Source: LoRA, arXiv 2106.09685, equation 3.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from pydantic import Field

from facemllm.core.config import StrictModel, validate
from facemllm.core.errors import ConfigError
from facemllm.language.model import LoraReport

logger = logging.getLogger(__name__)


class LoraOptions(StrictModel):
    """How to attach LoRA.

    Args:
        r: Rank of the update.
        alpha: The update is scaled by ``alpha / r``; ``2 * r`` if left out (LLaVA-1.5's ratio).
        dropout: Dropout before the update.
        target_modules: Patterns of module names: ``q_proj`` matches every module that is called so,
            ``model.layers.0.*`` and the like match whole names with ``*``. Left out: every linear layer
            but the output head.
    """

    r: int = Field(default=16, ge=1)
    alpha: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    target_modules: tuple[str, ...] | None = Field(default=None, min_length=1)


def apply_lora(model: Any, lora: LoraOptions | Mapping[str, Any]) -> tuple[Any, LoraReport]:
    """Wrap a causal LM by peft and say what was matched.

    Raises:
        ConfigError: If an option is unknown, or a target pattern matches no layer that LoRA can adapt.

    Example:
        >>> from facemllm.language.tiny import tiny_language_model
        >>> llm = tiny_language_model(["a"], hidden_size=32, layers=2, heads=2, vocab_size=512)
        >>> _, report = apply_lora(llm.model, {"r": 4, "target_modules": ["q_proj", "v_proj"]})
        >>> report.matched
        {'q_proj': 2, 'v_proj': 2}
    """
    from peft import LoraConfig, get_peft_model

    options = lora if isinstance(lora, LoraOptions) else validate(LoraOptions, dict(lora), source="lora")
    matched = _match(model, options.target_modules)
    config = LoraConfig(
        r=options.r,
        lora_alpha=options.alpha or 2 * options.r,
        lora_dropout=options.dropout,
        target_modules=sorted({name for names in matched.values() for name in names}),
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(model, config)
    report = LoraReport(
        {pattern: len(names) for pattern, names in matched.items()},
        trainable=sum(p.numel() for p in wrapped.parameters() if p.requires_grad),
        total=sum(p.numel() for p in wrapped.parameters()),
    )
    logger.info("%s", report)
    return wrapped, report


def name_tied_weights(language_model: Any) -> None:
    """Tell transformers where tied weights are inside peft's wrapper.

    The wrapper answers for the model within by the inner names, which do not exist under the wrapper's own.
    """
    if hasattr(language_model, "peft_config"):
        inner = language_model.get_base_model()
        tied = getattr(inner, "all_tied_weights_keys", None) or {}
        prefix = next(name for name, module in language_model.named_modules() if module is inner)
        language_model.all_tied_weights_keys = {f"{prefix}.{k}": f"{prefix}.{v}" for k, v in tied.items()}


def lora_settings(peft_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of :class:`LoraOptions` that make adapters such as those of a peft model."""
    adapter = next(iter(peft_config.values()))
    targets = adapter.target_modules
    return {
        "r": adapter.r,
        "alpha": adapter.lora_alpha,
        "dropout": adapter.lora_dropout,
        "target_modules": sorted(targets) if not isinstance(targets, str) else targets,
    }


def _match(model: Any, patterns: tuple[str, ...] | None) -> dict[str, list[str]]:
    """Names of modules by the pattern that matched; without patterns, all linear ones by their last name."""
    linear = _adaptable(model)
    if patterns is None:
        head = model.get_output_embeddings()
        names = [name for name, module in linear.items() if module is not head]
        return {
            last: [n for n in names if n.split(".")[-1] == last]
            for last in sorted({n.split(".")[-1] for n in names})
        }
    matched = {pattern: [name for name in linear if _matches(name, pattern)] for pattern in patterns}
    missing = [pattern for pattern, names in matched.items() if not names]
    if missing:
        raise ConfigError(
            f"LoRA target matches nothing: {', '.join(missing)}",
            given=f"target_modules={list(patterns)}",
            expected=f"names among {', '.join(sorted({name.split('.')[-1] for name in linear}))}",
            do="correct the pattern; model.named_modules() lists full names",
        )
    return matched


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or name.endswith(f".{pattern}") or ("*" in pattern and fnmatchcase(name, pattern))


def _adaptable(model: Any) -> dict[str, Any]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return {name: module for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))}
