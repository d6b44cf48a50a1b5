"""A held-out part, measured while a stage runs, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from facemllm.training.progress import RunLog


class Watch:
    """Measures now and then, remembers the best, and ends a phase that no longer gets better.

    Args:
        measure: Maps the (wrapped) model to numbers by name; ``loss`` among them is what counts, the lower
            the better. Every process calls it together and gets the same.
        every: Steps between measurements.
        patience: End the phase after so many measurements without a better one, and go back to the best
            weights; none to go on to the last step.
        phase: Its name, for the log.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> losses = iter([3.0, 2.0, 2.5, 2.4])
        >>> watch = Watch(lambda model: {"loss": next(losses)}, every=10, patience=2, phase="a")
        >>> log = RunLog(Path(tempfile.mkdtemp()) / "log.jsonl")
        >>> [(watch(nn.Linear(1, 1), step, log), watch.improved, watch.ended) for step in (9, 19, 29, 39)]
        [(3.0, True, False), (2.0, True, False), (2.5, False, False), (2.4, False, True)]
    """

    def __init__(
        self,
        measure: Callable[[nn.Module], Mapping[str, float]],
        *,
        every: int,
        patience: int | None = None,
        phase: str,
    ) -> None:
        self.measure, self.every, self.patience, self.phase = measure, every, patience, phase
        self.best: float | None = None
        self.best_step: int | None = None
        self.without = 0
        self.improved = False

    @property
    def ended(self) -> bool:
        """Whether the phase is over."""
        return self.patience is not None and self.without >= self.patience

    @property
    def keep_best(self) -> bool:
        """Whether the best weights are gone back to."""
        return self.patience is not None

    def due(self, step: int) -> bool:
        """Whether to measure after a step."""
        return (step + 1) % self.every == 0

    @torch.no_grad()
    def __call__(self, model: nn.Module, step: int, log: RunLog) -> float:
        """Measure, write the numbers down, and return the loss."""
        modes = {module: module.training for module in model.modules()}
        model.eval()
        found = {key: float(value) for key, value in self.measure(model).items()}
        for module, training in modes.items():
            module.training = training
        score = found["loss"]
        self.improved = self.best is None or score < self.best
        if self.improved:
            self.best, self.best_step, self.without = score, step, 0
        else:
            self.without += 1
        log.write(phase=self.phase, step=step, held_out=found)
        return score

    def state_dict(self) -> dict[str, Any]:
        """Return what a run that goes on must know."""
        return {"best": self.best, "best_step": self.best_step, "without": self.without}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.best, self.best_step, self.without = state["best"], state["best_step"], state["without"]
