"""Trackers of experiments, through accelerate: tensorboard, wandb, trackio and the others it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facemllm.core.errors import ConfigError, MissingExtraError


class Tracker:
    """Passes the numbers of a log's lines on.

    Phases follow each other in a run, and each counts its steps from zero: a number's name begins with the
    phase, as in ``face-tasks/loss``.

    Args:
        inner: A tracker of accelerate.
        growing: Whether its steps may not go back, as wandb drops what comes for an earlier step. Then they
            count on from phase to phase, and the phase's own step is a number beside the others
            (``face-tasks/step``).
    """

    def __init__(self, inner: Any, *, growing: bool = False) -> None:
        self.inner, self.growing = inner, growing
        self._phase: str | None = None
        self._begin, self._last = 0, -1

    def write(self, line: Mapping[str, Any]) -> None:
        """Pass on what is a number in a line that has a step."""
        if "step" not in line:
            return
        phase, step = str(line.get("phase", "run")), int(line["step"])
        values = {f"{phase}/{key}": value for key, value in numbers(line).items()}
        if values and self.growing:
            if phase != self._phase:
                self._phase, self._begin = phase, self._last + 1
            values[f"{phase}/step"] = float(step)
            step = self._last = max(self._last, self._begin + step)
        if values:
            self.inner.log(values, step=step)

    def close(self) -> None:
        """Finish."""
        self.inner.finish()


def numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line, those in lists and mappings by a name of their own.

    Example:
        >>> numbers({"step": 3, "loss": 1.5, "lr": [0.1, 0.2], "held_out": {"loss": 2.0}})
        {'loss': 1.5, 'lr/0': 0.1, 'lr/1': 0.2, 'held_out/loss': 2.0}
    """
    found: dict[str, float] = {}
    for key, value in line.items():
        inner = (
            enumerate(value)
            if isinstance(value, list)
            else value.items()
            if isinstance(value, dict)
            else None
        )
        if key in ("time", "step", "of", "phase"):
            continue
        if inner is not None:
            found |= {f"{key}/{name}": float(v) for name, v in inner if isinstance(v, (int, float))}
        elif isinstance(value, (int, float)):
            found[key] = float(value)
    return found


def options_of(name: str, folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a tracker is started with: the run's name, where it would make one up otherwise.

    trackio gets the configuration, too: accelerate hands it over with an option of wandb's among it.

    Example:
        >>> options_of("wandb", Path("runs/tiny"), {"seed": 0})
        {'name': 'tiny'}
    """
    if name == "trackio":
        return {"name": folder.resolve().name, "config": dict(config)}
    return {"name": folder.resolve().name} if name == "wandb" else {}


def start_trackers(names: Sequence[str], folder: Path, config: Mapping[str, Any]) -> list[Tracker]:
    """Start trackers by name.

    Args:
        names: Of accelerate's trackers, such as "tensorboard", "wandb" or "trackio".
        folder: Of the run; it gives the run its name, and holds what tensorboard writes.
        config: What is noted with the run.

    Raises:
        ConfigError: If there is no such tracker, or its package is not installed.
        MissingExtraError: The same for tensorboard and trackio, which are in an extra.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    installed = {str(getattr(name, "value", name)) for name in get_available_trackers()}
    started = []
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ConfigError(
                "unknown tracker",
                given=name,
                expected=f"one of {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}",
                do="check the name",
            )
        if name not in installed:
            if name in ("tensorboard", "trackio"):
                raise MissingExtraError(name, extra="track", needed_for=f"the tracker {name}")
            raise ConfigError(
                "this tracker is not installed",
                given=name,
                expected="an installed package of a tracker that accelerate knows",
                do=f"install its package, for most: pip install {name}",
            )
        kind = LOGGER_TYPE_TO_CLASS[name]
        if kind.requires_logging_directory:
            inner = kind(folder.name, logging_dir=folder)
        else:
            inner = kind("facemllm", **options_of(name, folder, config))
        inner.start()
        if name != "trackio":
            inner.store_init_configuration(numbers(config) if name == "tensorboard" else dict(config))
        started.append(Tracker(inner, growing=name != "tensorboard"))
    return started
