"""The versions a score depends on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from facemllm import __version__

_PACKAGES = ("torch", "transformers", "timm", "numpy", "pillow", "scikit-learn", "scipy", "fairlearn")


def versions() -> dict[str, str]:
    """Return the versions of this library, Python and the packages that results depend on."""
    found = {"facemllm": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
