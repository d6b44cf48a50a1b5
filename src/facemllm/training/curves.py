"""The curves of a phase as a picture."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from facemllm.training.progress import read_log

logger = logging.getLogger(__name__)


def draw_curves(log: Path, phase: str, picture: Path) -> bool:
    """Draw loss, held-out loss, norm of the gradient and rates of a phase over its steps.

    Args:
        log: The run's ``log.jsonl``.
        phase: Its name.
        picture: The PNG to write.

    Returns:
        Whether it was drawn; not without matplotlib, or without a step in the log.
    """
    lines = [line for line in read_log(log) if line.get("phase") == phase and "step" in line]
    steps = [line for line in lines if "loss" in line]
    if not steps or find_spec("matplotlib") is None:
        if steps:
            logger.info("no curves of %s: pip install 'facemllm[eval]'", phase)
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 7), dpi=110, layout="constrained")
    losses, norms, rates = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 1))
    losses.plot(*_points(steps, "loss"), label="training", linewidth=1)
    held_out = [{"step": line["step"], **line["held_out"]} for line in lines if "held_out" in line]
    if held_out:
        losses.plot(*_points(held_out, "loss"), "o-", label="held out", markersize=3)
        losses.legend()
    losses.set_title(phase)
    losses.set_ylabel("loss")
    norms.plot(*_points(steps, "norm"), linewidth=1)
    norms.set_ylabel("gradient norm")
    for group in range(len(steps[0]["lr"])):
        rates.plot([line["step"] for line in steps], [line["lr"][group] for line in steps], linewidth=1)
    rates.set_ylabel("learning rate")
    rates.set_xlabel("step")
    for axes in (losses, norms, rates):
        axes.grid(alpha=0.3)
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture)
    except OSError as error:  # a picture is no reason to stop
        logger.warning("cannot draw %s: %s", picture, error)
        return False
    return True


def _points(lines: Sequence[dict[str, Any]], key: str) -> tuple[list[int], list[float]]:
    return [line["step"] for line in lines], [line[key] for line in lines]
