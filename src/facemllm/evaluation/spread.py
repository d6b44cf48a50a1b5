"""Evaluation over several processes: those of torchrun or accelerate, or workers of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from facemllm.core.cluster import join_cluster
from facemllm.evaluation.asking import Interviewer
from facemllm.evaluation.store import Said

T = TypeVar("T")
Job = tuple[Mapping[str, str], Sequence[str]]
"""Pictures, as id to path, and the questions about them."""


@dataclass(frozen=True)
class Processes:
    """The processes that share an evaluation, as one of them sees it.

    Attributes:
        rank: Which one this is.
        size: How many there are.

    Example:
        >>> [Processes(rank, 2).own([1, 2, 3]) for rank in range(2)]
        [[1, 3], [2]]
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes reports."""
        return self.rank == 0

    def own(self, items: Sequence[T]) -> list[T]:
        """Return this process's share."""
        return list(items[self.rank :: self.size])

    def gather(self, value: T) -> list[T]:
        """Return the value of every process, in each of them; all must call it."""
        if self.size == 1:
            return [value]
        from torch import distributed

        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found


def processes() -> Processes:
    """Return the processes that ``torchrun`` or ``accelerate launch`` started; one, where neither did.

    They are connected on the first call.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) < 2:
        return Processes()
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    return Processes(state.process_index, state.num_processes)


def device() -> str | None:
    """Return the device of this process among several on CUDA; None leaves a model where it is."""
    import torch

    if not torch.cuda.is_available():
        return None
    return f"cuda:{int(os.environ.get('LOCAL_RANK') or 0)}"


def ask_by_ray(
    interviewer: Interviewer, jobs: Iterable[Job], *, address: str, workers: int
) -> Iterator[list[tuple[str, Said]]]:
    """Ask by workers of a Ray cluster, each with the model in its memory, and yield what they say.

    A worker that dies is started again, and does its job again. Pictures are read where the workers are.

    Args:
        interviewer: Asks; it travels to the workers with its model.
        jobs: What to ask.
        address: "local" to start Ray on this machine, "auto", or the address of a cluster.
        workers: How many.

    Raises:
        MissingExtraError: If Ray is not installed.
        ConfigError: If the cluster cannot be joined.
    """
    ray = join_cluster(address, workers, needed_for="evaluation over many machines")
    try:
        put = ray.put(interviewer)
        worker = ray.remote(max_restarts=-1, max_task_retries=-1)(_Worker)
        actors = [
            worker.options(num_cpus=1, num_gpus=_gpus(ray, workers)).remote(put) for _ in range(workers)
        ]
        left, running = iter(jobs), {}
        for actor in actors:
            for job in islice(left, 2):  # one at work and one waiting
                running[actor.ask.remote(*job)] = actor
        while running:
            done, _ = ray.wait(list(running))
            actor = running.pop(done[0])
            yield ray.get(done[0])
            for job in islice(left, 1):
                running[actor.ask.remote(*job)] = actor
    finally:
        ray.shutdown()


class _Worker:
    def __init__(self, interviewer: Interviewer) -> None:
        import torch

        self.interviewer = interviewer
        model: Any = interviewer.model
        if isinstance(model, torch.nn.Module):
            model.to("cuda" if torch.cuda.is_available() else "cpu")

    def ask(self, pictures: Mapping[str, str], questions: Sequence[str]) -> list[tuple[str, Said]]:
        return self.interviewer.ask(pictures, questions)


def _gpus(ray: Any, workers: int) -> float:
    return min(1.0, float(ray.cluster_resources().get("GPU", 0)) / workers)
