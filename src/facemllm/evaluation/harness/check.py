"""Does another harness, run for real, give the score that our own evaluation gives?"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facemllm.core.errors import ConfigError, FaceMLLMError
from facemllm.evaluation.harness.lmms_tasks import metrics_of
from facemllm.evaluation.tasks import EvalTask

DIGITS = 4
"""Decimals to which scores must agree."""

_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True)
class Agreement:
    """One metric of one task, by both.

    Attributes:
        task: Name of the task in the harness.
        metric: Name of the metric.
        ours: Its value in our report.
        theirs: What the harness printed; None where it printed nothing.
    """

    task: str
    metric: str
    ours: float
    theirs: float | None

    @property
    def agrees(self) -> bool:
        """Whether both are equal to four decimals.

        Example:
            >>> Agreement("a", "mae", 5.60001, 5.6).agrees, Agreement("a", "mae", 5.6, None).agrees
            (True, False)
        """
        return self.theirs is not None and abs(self.ours - self.theirs) < 0.5 * 10**-DIGITS


def agreements(
    names: Sequence[str],
    tasks: Sequence[EvalTask],
    ours: Mapping[str, Any],
    theirs: Mapping[str, Mapping[str, float]],
) -> list[Agreement]:
    """Put the scores of both side by side.

    Args:
        names: What the harness calls the tasks.
        tasks: The tasks, in the same order.
        ours: ``report.tasks``.
        theirs: Name of a task to metric to value.
    """
    found = []
    for name, task in zip(names, tasks, strict=True):
        result = ours[task.name]
        for metric in metrics_of(task):
            value = result["shares"]["answered"] if metric == "answered" else result.get(metric)
            if value is not None:
                found.append(Agreement(name, metric, float(value), theirs.get(name, {}).get(metric)))
    return found


def run_lmms_eval(
    python: str, folder: Path, names: Sequence[str], *, model: str = "facemllm-tiny", batch_size: int = 32
) -> dict[str, dict[str, float]]:
    """Run lmms-eval offline in an environment of its own, and return its scores by task and metric.

    Args:
        python: The Python of an environment with lmms-eval and facemllm.
        folder: With the task files; results are put into ``lmms-eval`` below it.
        names: Tasks to run.
        model: Name or folder of the FaceMLLM.
        batch_size: Pictures read together.

    Raises:
        FaceMLLMError: If it ends with an error, or without results.
    """
    out = folder / "lmms-eval"
    before = set(out.rglob("*_results.json"))
    command = [
        python, "-m", "lmms_eval", "--model", "facemllm", "--model_args", f"pretrained={model}",
        "--tasks", ",".join(names), "--include_path", str(folder), "--batch_size", str(batch_size),
        "--output_path", str(out),
    ]  # fmt: skip
    _run(command, _OFFLINE | {"LMMS_EVAL_DATASETS_CACHE": str(out / "cache")})
    fresh = sorted(set(out.rglob("*_results.json")) - before)
    if not fresh:
        raise _failed(command, "no results")
    results = json.loads(fresh[-1].read_text(encoding="utf-8"))["results"]
    return {
        name: {
            key.partition(",")[0]: float(value)
            for key, value in results.get(name, {}).items()
            if isinstance(value, (int, float)) and "stderr" not in key and math.isfinite(value)
        }
        for name in names
    }


def run_vlmevalkit(
    python: str, folder: Path, names: Sequence[str], *, model: str = "facemllm-tiny", batch_size: int = 32
) -> dict[str, dict[str, float]]:
    """Run VLMEvalKit offline in an environment of its own; arguments and result as of lmms-eval.

    VLMEvalKit asks one question at a time, so ``batch_size`` says nothing to it.
    """
    out = (folder / "vlmevalkit").absolute()
    name = Path(model).name
    command = [
        python, "-m", "facemllm.evaluation.harness.vlmevalkit", "--work-dir", str(out), "--model",
        model if name == model else f"{name}={model}", "--data", *names,
    ]  # fmt: skip
    before = set(out.rglob("*_facemllm.json"))
    _run(command, _OFFLINE | {"LMUData": str(folder.absolute())})
    scores = {}
    for path in sorted(set(out.rglob("*_facemllm.json")) - before):
        result = json.loads(path.read_text(encoding="utf-8"))
        task = path.name.removeprefix(f"{name}_").removesuffix("_facemllm.json")
        flat = {key: value for key, value in result.items() if isinstance(value, (int, float))}
        scores[task] = flat | {"answered": result["shares"]["answered"]}
    if not scores:
        raise _failed(command, "no results")
    return scores


RUNNERS = {"lmms-eval": run_lmms_eval, "vlmevalkit": run_vlmevalkit}


def _run(command: Sequence[str], variables: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(
            command, env=os.environ | variables, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ConfigError(
            "cannot run the harness",
            given=str(error),
            expected="the Python of an environment with the harness and facemllm",
            do="see docs/harnesses.md",
        ) from None
    if done.returncode:
        raise _failed(command, (done.stderr or done.stdout).strip()[-1500:])


def _failed(command: Sequence[str], why: str) -> FaceMLLMError:
    return FaceMLLMError(
        "the harness failed",
        given=f"{' '.join(command)}: {why}",
        expected="results",
        do="run the command by itself; docs/harnesses.md says how to install it",
    )
