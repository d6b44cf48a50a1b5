"""How an attention kernel is offered, chosen, and passed over with a reason.

A backend is a module or object with the members of ``Backend``. It is imported only when its turn comes.
Without a choice the first that has no objection runs; ``use_backend`` makes the choice for a block of code.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from facemllm.core.errors import ConfigError
from facemllm.ops.masks import Mask

# Fastest first; eager has no objection to anything, so it ends the list.
_MODULES = {"xformers": "_xformers", "sdpa": "_sdpa", "eager": "_eager"}

_chosen: ContextVar[str | None] = ContextVar("facemllm_attention_backend", default=None)


@dataclass(frozen=True)
class Inputs:
    """The arguments of one call of attention. Shapes as in :mod:`facemllm.ops.reference`."""

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Mask | None = None
    scale: float | None = None
    needs_lse: bool = False
    dropout: float = 0.0

    def allowed(self) -> Tensor | None:
        """Return the dense mask, or none."""
        return (
            None
            if self.mask is None
            else self.mask.materialize(self.q.shape[-2], self.k.shape[-2], self.q.device)
        )

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(getattr(self, name).shape)}" for name in "qkv")
        mask = type(self.mask).__name__ if self.mask is not None else "none"
        device = f"{self.q.dtype} on {self.q.device}"
        return f"{shapes}, {device}, mask {mask}, log-sum-exp {self.needs_lse}, dropout {self.dropout}"


class Function(NamedTuple):
    """An op other than attention, of one backend."""

    reasons: Callable[..., list[str]]
    """Returns why it cannot honour its arguments; empty if it can."""
    run: Callable[..., Tensor]


class Arguments(NamedTuple):
    """The arguments of an op, described by the tensors among them."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        tensors = [x for x in self.values if isinstance(x, Tensor)]
        return ", ".join(f"{tuple(x.shape)} {x.dtype} on {x.device}" for x in tensors)


class Backend(Protocol):
    """One implementation of attention."""

    def unavailable_reasons(self) -> list[str]:
        """Return why it cannot run here at all (not installed, no such device); empty if it can."""

    def not_supported_reasons(self, inputs: Inputs) -> list[str]:
        """Return why it cannot honour these inputs; empty if it can. Called only if it is available."""

    def run(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """Return the output and, if ``inputs.needs_lse``, the log-sum-exp."""


def backend_names() -> list[str]:
    """Return the names of all backends, in the order in which they are tried.

    Example:
        >>> backend_names()
        ['xformers', 'sdpa', 'eager']
    """
    return list(_MODULES)


@cache
def load_backend(name: str) -> Backend:
    """Import a backend.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name not in _MODULES:
        raise ConfigError(
            f"unknown attention backend {name!r}",
            given=repr(name),
            expected=f"one of {', '.join(_MODULES)}",
            do="correct the name; facemllm info lists which of them run here",
        )
    backend: Backend = importlib.import_module(f"facemllm.ops.{_MODULES[name]}")
    return backend


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Have attention computed by this backend, and by no other, within a ``with`` block.

    Other ops are computed by it where it has them.

    Raises:
        ConfigError: If there is none of that name.

    Example:
        >>> with use_backend("eager"):
        ...     pass
    """
    load_backend(name)
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def select_backend(inputs: Inputs, name: str | None = None) -> Backend:
    """Return the backend that computes these inputs.

    Raises:
        ConfigError: If the one chosen by name or by ``use_backend`` cannot; its reasons are listed.
    """
    chosen = name or _chosen.get()
    return _first([chosen] if chosen else list(_MODULES), "attention", inputs, _reasons_against)


def select_function(
    op: str, functions: Mapping[str, Function], name: str | None, arguments: Arguments
) -> Callable[..., Tensor]:
    """Return what computes an op other than attention.

    Args:
        op: Its name, for messages.
        functions: What the backends that have it offer, fastest first.
        name: The backend that must compute it. That of ``use_backend`` is taken if it has the op.
        arguments: Of the call.

    Raises:
        ConfigError: If the one chosen by name cannot; its reasons are listed.
    """

    def reasons(backend: str, given: Arguments) -> list[str]:
        if backend not in functions:
            return [f"it has no {op} of its own"]
        return list(_unavailable(backend)) or functions[backend].reasons(*given.values)

    if name is not None:
        load_backend(name)  # refuses a name that is none
    chosen = name or (_chosen.get() if _chosen.get() in functions else None)
    found = _first([chosen] if chosen else list(functions), op, arguments, reasons, load=lambda x: x)
    return functions[found].run


def _first(
    names: Sequence[str],
    op: str,
    given: Any,
    reasons_against: Callable[[str, Any], list[str]],
    load: Callable[[str], Any] = load_backend,
) -> Any:
    reasons: dict[str, list[str]] = {}
    for name in names:
        load_backend(name)
        reasons[name] = reasons_against(name, given)
        if not reasons[name]:
            return load(name)
    raise ConfigError(
        f"no backend of {op} for these inputs",
        given=str(given),
        expected="inputs that the backend supports. "
        + "; ".join(f"{n}: {', '.join(r)}" for n, r in reasons.items()),
        do="leave the backend open, or choose 'eager', which takes everything",
    )


def _reasons_against(name: str, inputs: Inputs) -> list[str]:
    return list(_unavailable(name)) or load_backend(name).not_supported_reasons(inputs)


def backend_report() -> dict[str, list[str]]:
    """Return, for every backend, why it cannot run here; nothing if it can.

    Example:
        >>> backend_report()["eager"]
        []
    """
    return {name: list(_unavailable(name)) for name in _MODULES}


@cache
def _unavailable(name: str) -> tuple[str, ...]:
    # What is installed does not change while a program runs, and looking costs more than a small attention.
    return tuple(load_backend(name).unavailable_reasons())
