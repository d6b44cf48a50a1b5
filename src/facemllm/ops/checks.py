"""Refusals that several ops share: what is no tensor, and what is no usable number."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from torch import Tensor

from facemllm.core.errors import ConfigError


def is_number(value: Any, *, least: float) -> bool:
    """Say whether a value is a finite number, not below ``least``.

    Example:
        >>> is_number(0.5, least=0), is_number(float("nan"), least=0), is_number("1", least=0)
        (True, False, False)
    """
    return isinstance(value, Real) and math.isfinite(value) and float(value) >= least


def check_tensors(op: str, **values: Any) -> None:
    """Refuse what is no tensor.

    Raises:
        ConfigError: Naming the argument.

    Example:
        >>> check_tensors("rotary", x=[1.0])
        Traceback (most recent call last):
        ...
        facemllm.core.errors.ConfigError: rotary takes tensors
          given:    x of type list
          expected: a torch.Tensor
          do:       pass torch.as_tensor(x)
    """
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise ConfigError(
                f"{op} takes tensors",
                given=f"{name} of type {type(value).__name__}",
                expected="a torch.Tensor",
                do=f"pass torch.as_tensor({name})",
            )
