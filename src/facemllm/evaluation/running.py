"""Asks what is not known yet, in this process, in several, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from facemllm.data import FaceSample
from facemllm.evaluation.asking import Interviewer
from facemllm.evaluation.spread import Job, Processes, ask_by_ray
from facemllm.evaluation.store import PredictionStore, Said, digest
from facemllm.evaluation.tasks import EvalTask, Question

Answered = list[tuple[str, Said]]


@dataclass(frozen=True)
class Running:
    """How an evaluation runs; nothing of it changes a score.

    Attributes:
        batch_size: Pictures a call.
        progress: Show a progress bar.
        processes: Those that share the work.
        ray: Address of a Ray cluster, "local" or "auto"; None to do without.
        ray_workers: How many workers there.
    """

    batch_size: int = 32
    progress: bool = True
    processes: Processes = field(default_factory=Processes)
    ray: str | None = None
    ray_workers: int = 2


def ask_all(
    interviewer: Interviewer,
    store: PredictionStore,
    samples: Sequence[FaceSample],
    tasks: Sequence[EvalTask],
    how: Running,
) -> int:
    """Ask what is not known yet, and return about how many pictures; every process has all of it then.

    Every process asks about its own share of the pictures, whatever was known before.
    """
    todo = _Todo(interviewer, store, how.processes.own(samples), tasks)
    jobs = todo.jobs(how.batch_size)
    if how.ray is None:
        said: Iterable[Answered] = (interviewer.ask(*job) for job in jobs)
    else:
        said = ask_by_ray(interviewer, jobs, address=how.ray, workers=how.ray_workers)
    asked = 0
    for batch in _track(said, todo.about(how.batch_size), how.progress and how.processes.first):
        for sample, one in batch:
            store.add(sample, one)
        asked += len(batch)
    return sum(_exchange(store, how.processes, asked, samples))


def questions_about(sample: FaceSample, tasks: Sequence[EvalTask]) -> Iterator[tuple[EvalTask, Question]]:
    """Yield the questions whose answers are known of a sample."""
    for task in tasks:
        for question in task.questions:
            if task.truth(sample, question) is not None:
                yield task, question


class _Todo:
    """What is to be asked, found out on the way: pictures' files are read only when their turn comes."""

    def __init__(
        self,
        interviewer: Interviewer,
        store: PredictionStore,
        samples: Sequence[FaceSample],
        tasks: Sequence[EvalTask],
    ) -> None:
        self.interviewer, self.store, self.samples, self.tasks = interviewer, store, samples, tasks

    def about(self, size: int) -> int:
        """Return how many jobs there are if no picture has changed."""
        new = sum(self._missing(sample, self._wanted(sample), None) for sample in self.samples)
        return -(-new // size)

    def jobs(self, size: int) -> Iterator[Job]:
        """Yield pictures with the questions of any of them, so many pictures at a time."""
        pictures: dict[str, str] = {}
        questions: dict[str, None] = {}
        for sample in self.samples:
            wanted = self._wanted(sample)
            if wanted and self._missing(sample, wanted, digest(sample.image)):
                pictures[sample.id] = sample.image
                questions |= dict.fromkeys(wanted)
            if len(pictures) == size:
                yield pictures, list(questions)
                pictures, questions = {}, {}
        if pictures:
            yield pictures, list(questions)

    def _wanted(self, sample: FaceSample) -> list[str]:
        return [question.text for _, question in questions_about(sample, self.tasks)]

    def _missing(self, sample: FaceSample, wanted: Sequence[str], picture: str | None) -> bool:
        said = self.store.get(sample.id)
        return bool(wanted) and self.interviewer.missing(said, wanted, picture or said["picture"])


def _exchange(
    store: PredictionStore, processes: Processes, asked: int, samples: Sequence[FaceSample]
) -> list[int]:
    """Give all answers to all processes, and put their files into one."""
    if processes.size == 1:
        if store.path is not None:
            store.unite()  # what an earlier run of several processes left
        return [asked]
    own: Mapping[str, Said] = {sample.id: store.get(sample.id) for sample in processes.own(samples)}
    for found in processes.gather(own):
        for sample, said in found.items():
            store.take(sample, said)
    counts = processes.gather(asked)  # from here on, no process writes
    if processes.first and store.path is not None:
        store.unite()
    processes.gather(None)  # and none ends before the files are one
    return counts


def _track(
    said: Iterable[list[tuple[str, Said]]], total: int, progress: bool
) -> Iterable[list[tuple[str, Said]]]:
    if not progress or not total:
        return said
    from rich.console import Console
    from rich.progress import track

    return track(said, description="asking", total=total, console=Console(stderr=True))
