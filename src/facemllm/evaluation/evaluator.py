"""From a model and a dataset to a report."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from facemllm.core.errors import ConfigError, DatasetError
from facemllm.data import FaceSample, read_dataset
from facemllm.evaluation.asking import Askable, Interviewer
from facemllm.evaluation.folders import check_before_loading, check_folder, clear_folder, note_begun
from facemllm.evaluation.head_results import head_value
from facemllm.evaluation.kept import KeptRecords
from facemllm.evaluation.likelihoods import check_chooses, options_of, score_likelihoods
from facemllm.evaluation.models import resolve_model
from facemllm.evaluation.overlap import find_overlap
from facemllm.evaluation.parsing import PARSER_VERSION, Outcome
from facemllm.evaluation.protocols import Protocol, load_protocol
from facemllm.evaluation.records import Record, brief, summarise, summarise_protocol
from facemllm.evaluation.report import Report
from facemllm.evaluation.running import Running, ask_all, questions_about
from facemllm.evaluation.spread import device, processes
from facemllm.evaluation.store import PredictionStore, Said, fingerprint
from facemllm.evaluation.tasks import EvalTask, supported_tasks
from facemllm.evaluation.versions import versions


def evaluate(
    model: str | Path | Askable,
    dataset: str | Iterable[FaceSample],
    *,
    root: str | Path | None = None,
    split: str = "all",
    tasks: Sequence[str] | None = None,
    sensitive: bool = True,
    limit: int | None = None,
    batch_size: int = 32,
    output_dir: str | Path | None = None,
    progress: bool = True,
    with_heads: bool = False,
    crop: str | None = None,
    model_name: str | None = None,
    likelihoods: bool = False,
    protocol: str | Path | Protocol | None = None,
    ray: str | None = None,
    ray_workers: int = 2,
    training_pictures: Iterable[tuple[str, str]] | None = None,
    overwrite: bool | None = None,
) -> Report:
    """Ask a model about every labelled face of a dataset and compare the answers with the labels.

    Every picture is asked the one canonical question of each task in one call; the generated text is read by
    the deterministic parser. Pictures that cannot be read are counted and left out; where the model finds no
    face, the whole picture is taken, and counted.

    Args:
        model: Name or folder for ``AutoFaceMLLM``; another name that
            :func:`facemllm.evaluation.models.resolve_model` knows (``majority``, ``openai:MODEL@URL``,
            ``transformers:ID``); or an object with ``ask`` (see :class:`facemllm.evaluation.asking.Askable`).
        dataset: Name of a dataset, or labelled faces of one.
        root: Folder of the dataset's own files, for a name.
        split: Which split, for a name.
        tasks: Only these tasks; by default all the dataset has labels for.
        sensitive: Whether the default includes perceived gender and ethnicity.
        limit: At most so many faces, drawn by a hash of their ids.
        batch_size: Pictures a call.
        output_dir: Where ``predictions.jsonl`` is kept while running; a run that was interrupted, or is
            repeated with more tasks, asks only about pictures that lack answers.
        progress: Show a progress bar.
        with_heads: Also score the model's heads that are named as tasks, as ``tasks.<task>.head``.
        crop: "face" or "none", for models that take it.
        likelihoods: Also ask for the probability of each option of tasks with classes (``choose``), and score
            the likeliest and its calibration, as ``tasks.<task>.likelihood``.
        protocol: Name, file or instance of a zero-shot protocol: then only its attributes are asked, in its
            words, and seen and unseen ones are scored apart.
        model_name: What the report calls the model; by default its name, folder, or class.
        ray: Ask by workers of a Ray cluster: "local" to start one here, "auto", or its address.
        ray_workers: How many.
        training_pictures: Names and paths of pictures the model was trained on: their copies among the test
            pictures are listed, and the scores without them given as ``tasks.<task>.without_copies``.
        overwrite: Whether to remove answers and a report of another run (another model, dataset, split or
            setting) from ``output_dir``; False refuses such a folder. By default they are left, and several
            runs may keep their answers in one file.

    Under ``torchrun`` or ``accelerate launch`` every process asks about its share of the pictures, and every
    one returns the same report, which the first alone saves.

    Raises:
        ConfigError: If model, dataset or tasks do not fit, or ``output_dir`` holds another run and
            ``overwrite`` is False.
        DatasetError: If there is nothing to evaluate on.
        MissingExtraError: If the extra ``eval`` is not installed.

    Example:
        >>> from facemllm import evaluate
        >>> report = evaluate("facemllm-tiny", "utkface", root="utkface", split="test")  # doctest: +SKIP
        >>> report.save("report")  # doctest: +SKIP
    """
    if batch_size < 1 or (limit is not None and limit < 1):
        raise ConfigError(
            "cannot evaluate",
            given=f"batch_size={batch_size}, limit={limit}",
            expected="positive numbers",
            do="correct them",
        )
    samples, name, skipped = _samples(dataset, root, split)
    available = len(samples)
    samples = draw(samples, limit)
    rules = None if protocol is None else load_protocol(protocol)
    chosen = [rules.task(samples)] if rules else supported_tasks(samples, tasks, sensitive=sensitive)
    path = None if output_dir is None else Path(output_dir) / "predictions.jsonl"
    part = split if isinstance(dataset, str) else None
    config: dict[str, Any] = {
        "model": model_name or (str(model) if isinstance(model, (str, Path)) else type(model).__name__),
        "model_fingerprint": None,
        "dataset": name,
        "root": None if root is None else str(root),
        "split": split,
        "tasks": [task.name for task in chosen],
        "limit": limit,
        "batch_size": batch_size,
        "crop": crop,
        "with_heads": with_heads,
        "likelihoods": likelihoods,
        "protocol": None if rules is None else f"{rules.name}, version {rules.version}",
        "questions": {
            task.name: [q.text for q in task.questions] for task in chosen if task.name != "attributes"
        },
        "parser_version": PARSER_VERSION,
    }
    together = processes()
    if path is not None and overwrite is False and isinstance(model, (str, Path)):
        check_before_loading(
            path.parent, str(model), config, PredictionStore(path, name, "", part=together.rank)
        )
    asked = resolve_model(model)
    if hasattr(asked, "prepare"):
        asked.prepare(samples, chosen)
    if rules:
        rules.check_training(getattr(asked, "trained_attributes", ()))
    if likelihoods:
        check_chooses(asked)
    shown = (
        {q.text: options_of(t) for t in chosen for q in t.questions if options_of(t)} if likelihoods else {}
    )
    heads = [task.name for task in chosen if task.name in getattr(asked, "heads", {})] if with_heads else []
    mark = config["model_fingerprint"] = fingerprint(asked, crop=crop)
    if together.size > 1 and hasattr(asked, "to") and (place := device()) is not None:
        asked.to(place)
    store = PredictionStore(path, name, mark, part=together.rank)
    if path is not None and overwrite is not None:
        if not overwrite:
            check_folder(path.parent, config, store)
        elif together.first:
            clear_folder(path.parent, config, store)
        if together.first:
            note_begun(path.parent, config)
        together.gather(None)  # no process writes before all have looked
        store = PredictionStore(path, name, mark, part=together.rank)
    interviewer = Interviewer(asked, crop=crop, heads=heads, options=shown)
    began = time.perf_counter()
    new = ask_all(
        interviewer, store, samples, chosen, Running(batch_size, progress, together, ray, ray_workers)
    )
    seconds = time.perf_counter() - began
    records = KeptRecords(samples)
    unreadable: dict[str, str] = {}
    no_face = 0
    for at, sample in enumerate(samples):
        said = store.get(sample.id)
        no_face += said["face"] is False
        if said["error"]:
            unreadable[sample.id] = said["error"]
        else:
            _keep_answers(records, at, said, chosen)
    if not records:
        raise DatasetError(
            "nothing could be evaluated",
            given=f"{len(samples)} samples, {len(unreadable)} unreadable: {list(unreadable.values())[:1]}",
            expected="pictures that can be read",
            do="check the pictures' files",
        )
    overlap = find_overlap(asked, samples, name, part, training_pictures)
    for at, sample in enumerate(samples) if heads else ():
        if not (said := store.get(sample.id))["error"]:
            _keep_heads(records, at, said, [task for task in chosen if task.name in heads])
    results = {}
    for task in chosen:
        own: Sequence[Record] = records.of(task.name)
        results[task.name] = summarise(task, own)
        if overlap.copies:
            unseen = [record for record in own if record.sample not in overlap.copies]
            results[task.name]["without_copies"] = brief(summarise(task, unseen))
        if rules:
            results[task.name]["protocol"] = summarise_protocol(rules, task, own)
        if likelihoods and (found := score_likelihoods(store, samples, task)):
            results[task.name]["likelihood"] = found
        if task.name in heads:
            results[task.name]["head"] = summarise(task, records.of(task.name, head=True))
    return Report(
        summary={
            "dataset": name,
            "split": part,
            "samples": len(samples),
            "drawn_from": available if len(samples) < available else None,
            "skipped_records": skipped,
            "unreadable": {"n": len(unreadable), "examples": dict(list(unreadable.items())[:5])},
            "no_face": no_face,
            "warnings": overlap.warnings,
            "training_overlap": overlap.to_dict(),
            "tasks": results,
            "config": config,
            "versions": versions(),
            "timing": {"pictures_asked": new, "seconds": round(seconds, 2)},
        },
        records=records,
    )


def _samples(
    dataset: str | Iterable[FaceSample], root: str | Path | None, split: str
) -> tuple[list[FaceSample], str, int]:
    if isinstance(dataset, str):
        if root is None:
            raise ConfigError(
                "cannot read the dataset",
                given=f"{dataset!r} without root",
                expected="its folder",
                do="pass root=...",
            )
        read = read_dataset(dataset, root, split)
        return list(read), dataset, read.skipped.total
    samples = list(dataset)
    names = sorted({sample.dataset for sample in samples})
    if len(names) != 1:
        raise DatasetError(
            "cannot evaluate these samples",
            given=f"{len(samples)} samples of {', '.join(names) or 'no dataset'}",
            expected="samples of one dataset",
            do="evaluate datasets one by one: a mean over several says nothing",
        )
    repeated = [sample for sample, count in Counter(sample.id for sample in samples).items() if count > 1]
    if repeated:
        raise DatasetError(
            "samples are not distinct",
            given=f"id {repeated[0]!r} more than once",
            expected="unique ids",
            do="number them",
        )
    return samples, names[0], 0


def draw(samples: list[FaceSample], limit: int | None) -> list[FaceSample]:
    """Draw by hash of the id: the first of a dataset that is sorted by class would be of one class."""
    if limit is None or limit >= len(samples):
        return samples
    drawn = {
        sample.id for sample in sorted(samples, key=lambda s: hashlib.sha1(s.id.encode()).digest())[:limit]
    }
    return [sample for sample in samples if sample.id in drawn]


def _keep_answers(records: KeptRecords, place: int, said: Said, tasks: Sequence[EvalTask]) -> None:
    for task, question in questions_about(records.samples[place], tasks):
        text = said["answers"].get(question.text)
        if text is not None:
            parsed = task.read(text)
            value = task.prediction(parsed.label) if parsed.outcome == "answer" else None
            records.add(place, task, question, text, parsed.outcome, value)


def _keep_heads(records: KeptRecords, place: int, said: Said, tasks: Sequence[EvalTask]) -> None:
    for task, question in questions_about(records.samples[place], tasks):
        if task.name in said["heads"]:
            found = head_value(task, question, said["heads"][task.name])
            value = None if found is None else task.prediction(found)
            outcome: Outcome = "unparsed" if found is None else "answer"
            records.add(place, task, question, str(found), outcome, value, head=True)
