"""Imports of the packages behind the extra ``eval``, with an error that says how to install them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from facemllm.core.errors import MissingExtraError

_INSTALLED_AS = {"sklearn": "scikit-learn"}


def need(module: str, needed_for: str) -> ModuleType:
    """Import a module of the extra ``eval``.

    Raises:
        MissingExtraError: If its package is not installed.

    Example:
        >>> need("sklearn.metrics", "accuracy").accuracy_score([1, 0], [1, 1])
        0.5
    """
    try:
        return import_module(module)
    except ModuleNotFoundError:
        package = module.partition(".")[0]
        raise MissingExtraError(
            _INSTALLED_AS.get(package, package), extra="eval", needed_for=needed_for
        ) from None
