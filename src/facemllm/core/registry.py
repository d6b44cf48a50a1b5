"""One registry class for every kind of swappable part.

A part is known by a name, and a name may be given wherever an instance is accepted. Other packages
add parts through entry points, which are loaded only when their name is asked for.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from facemllm.core.errors import RegistryError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names mapped to factories of one kind of part.

    Args:
        kind: What the parts are, in the singular ("encoder"). The entry-point group is
            ``facemllm.<kind>s``.

    Example:
        >>> connectors = Registry("example")
        >>> @connectors.register("double")
        ... def make_double(*, scale=2):
        ...     return scale
        >>> connectors.create("double", scale=3)
        3
        >>> connectors.names()
        ['double']
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.group = f"facemllm.{kind}s"
        self._factories: dict[str, Callable[..., T]] = {}

    def register(self, name: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Return a decorator that registers a factory (a class or function) under ``name``.

        Raises:
            RegistryError: If the name is taken by another factory.
        """

        def decorate(factory: Callable[..., T]) -> Callable[..., T]:
            known = self._factories.get(name)
            if known is not None and known is not factory:
                raise RegistryError(
                    f"{self.kind} {name!r} is registered twice",
                    given=f"{factory!r}",
                    expected=f"a name other than that of {known!r}",
                    do="choose another name for your part",
                )
            self._factories[name] = factory
            return factory

        return decorate

    def names(self) -> list[str]:
        """Return all known names, those of entry points included, sorted."""
        return sorted({*self._factories, *(point.name for point in self._entry_points())})

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def get(self, name: str) -> Callable[..., T]:
        """Return the factory registered under ``name``.

        Raises:
            RegistryError: If the name is unknown, or two packages offer it.
        """
        if name in self._factories:
            return self._factories[name]
        offers = [point for point in self._entry_points() if point.name == name]
        if len(offers) > 1:
            raise RegistryError(
                f"{self.kind} {name!r} is offered by more than one package",
                given=", ".join(point.value for point in offers),
                expected="one entry point a name",
                do="uninstall one of the packages or rename its entry point",
            )
        if offers:
            self._factories[name] = offers[0].load()
            return self._factories[name]
        near = difflib.get_close_matches(name, self.names(), n=3, cutoff=0.4)
        raise RegistryError(
            f"unknown {self.kind} {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""),
            given=repr(name),
            expected=f"one of {', '.join(self.names())}",
            do=f"register your own with an entry point in the group {self.group!r}, or pass an instance",
        )

    def create(self, name: str, **options: Any) -> T:
        """Build the part called ``name`` with ``options``."""
        return self.get(name)(**options)

    def _entry_points(self) -> list[Any]:
        return list(entry_points(group=self.group))
