"""What a connector is, and how one is made by name."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from facemllm.core.errors import ConfigError
from facemllm.core.registry import Registry

_SIZES = ("in_dim", "out_dim", "num_queries", "width", "layers", "heads", "cross_every")


class Connector(nn.Module, ABC):
    """Turns the features of a vision encoder into embeddings of a language model.

    Args:
        spec: What builds it again: ``create_connector(**spec)``, with fresh weights. JSON can hold it.

    Raises:
        ConfigError: If a size in it (a width, or a number of queries, layers or heads) is not 1 or more.
    """

    def __init__(self, **spec: Any) -> None:
        super().__init__()
        wrong = {
            key: value
            for key, value in spec.items()
            if key in _SIZES and (not isinstance(value, int) or isinstance(value, bool) or value < 1)
        }
        if wrong:
            raise ConfigError(
                f"the connector {spec.get('name')!r} has no such size",
                given=", ".join(f"{key}={value!r}" for key, value in wrong.items()),
                expected="whole numbers of 1 or more",
                do="correct the options",
            )
        self.spec: dict[str, Any] = spec
        self.in_dim: int = spec["in_dim"]
        self.out_dim: int = spec["out_dim"]

    @abstractmethod
    def num_output_tokens(self, num_tokens: int) -> int:
        """Return M, the number of embeddings made of N = ``num_tokens`` features."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, N, Din] to embeddings [B, M, Dout]."""


CONNECTORS: Registry[Connector] = Registry("connector")


def create_connector(
    name: str | Connector, in_dim: int | None = None, out_dim: int | None = None, **options: Any
) -> Connector:
    """Return the connector of that name, or check and return the one given.

    Args:
        name: "mlp", "qformer", "resampler", a name of an entry point, or a connector.
        in_dim: Din, the encoder's ``embed_dim``.
        out_dim: Dout, the language model's ``embed_dim``.
        options: What the connector's class takes beside.

    Raises:
        RegistryError: If the name is unknown.
        ConfigError: If an option is unknown, a width is missing, or a given connector has other widths.

    Example:
        >>> create_connector("mlp", in_dim=8, out_dim=4).num_output_tokens(196)
        196
    """
    if not isinstance(name, str):
        return _check_instance(name, in_dim, out_dim, options)
    factory = CONNECTORS.get(name)
    try:
        if in_dim is None or out_dim is None:
            raise TypeError("in_dim and out_dim are needed with a name")
        inspect.signature(factory).bind(in_dim=in_dim, out_dim=out_dim, **options)
    except TypeError as error:
        raise ConfigError(
            f"wrong options for connector {name!r}",
            given=f"{error}",
            expected=f"{name}{inspect.signature(factory)}",
            do="correct the options",
        ) from None
    return factory(in_dim=in_dim, out_dim=out_dim, **options)


def _check_instance(part: Any, in_dim: int | None, out_dim: int | None, options: dict[str, Any]) -> Connector:
    wanted = {side: size for side, size in (("in_dim", in_dim), ("out_dim", out_dim)) if size is not None}
    fits = all(getattr(part, side, None) == size for side, size in wanted.items())
    if not isinstance(part, Connector) or options or not fits:
        sizes = {side: getattr(part, side, None) for side in ("in_dim", "out_dim")}
        raise ConfigError(
            "this connector cannot be used",
            given=f"{type(part).__name__} with {sizes} and options {options}",
            expected=f"a Connector with {wanted or 'any widths'} and no options",
            do="build it for the encoder's and the language model's embed_dim, and set options there",
        )
    return part
