"""Errors a person can act on.

Every error the library raises for bad input has four parts: what failed, what was given, what was
expected, and what to do. The command line prints them and exits with status 2.
"""

from __future__ import annotations


class FaceMLLMError(ValueError):
    """Base class of all errors caused by what the caller gave.

    Args:
        what: What failed, as a short sentence without a full stop.
        given: The offending value, described (shapes, dtypes, paths).
        expected: What would have been accepted.
        do: The next step for the reader.

    Example:
        >>> raise FaceMLLMError("cannot open image", given="a.txt", expected="a photo", do="pass a JPEG")
        Traceback (most recent call last):
        ...
        facemllm.core.errors.FaceMLLMError: cannot open image
          given:    a.txt
          expected: a photo
          do:       pass a JPEG
    """

    def __init__(self, what: str, *, given: object, expected: object, do: str) -> None:
        self.what, self.given, self.expected, self.do = what, str(given), str(expected), do
        super().__init__(f"{what}\n  given:    {self.given}\n  expected: {self.expected}\n  do:       {do}")


class ConfigError(FaceMLLMError):
    """A configuration has unknown keys or values that do not fit."""


class RegistryError(FaceMLLMError):
    """A part's name is unknown, or is registered twice."""


class ImageError(FaceMLLMError):
    """A picture cannot be read or is of no use."""


class NoFaceError(ImageError):
    """A picture was read, but no face was found in it."""


class TokenizationError(FaceMLLMError):
    """Text and pictures do not fit together, or a truncation would eat image tokens."""


class CheckpointError(FaceMLLMError):
    """A checkpoint is incomplete, mismatched, or asks for code to be run."""


class DatasetError(FaceMLLMError):
    """A dataset is not laid out as its reader expects."""


class TrainingError(FaceMLLMError):
    """A training run cannot go on, or did not do what its recipe says."""


class MissingExtraError(FaceMLLMError, ImportError):
    """An optional dependency is needed and not installed."""

    def __init__(self, package: str, *, extra: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the package {package!r}",
            given=f"an environment without {package}",
            expected=f"{package} installed",
            do=f"pip install 'facemllm[{extra}]'",
        )
