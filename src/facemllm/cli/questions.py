"""``facemllm questions``: turn a labelled dataset into questions and answers."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facemllm.core.errors import DatasetError

if TYPE_CHECKING:
    from facemllm.data import FaceSample

_ABOUT = {"id", "image", "box", "dataset", "split", "licence"}


def questions(
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the dataset.", metavar="NAME")],
    root: Annotated[str, typer.Option("--root", help="Folder with the dataset's own files.", metavar="DIR")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="File to write, one question a line.", metavar="FILE.jsonl")
    ],
    split: Annotated[str, typer.Option(help="A split of the dataset, or all.")] = "all",
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            "-t",
            help="Only this task; repeats. Default: all but gender and ethnicity. verification asks about "
            "pairs (lfw, calfw, cplfw), and only about them.",
        ),
    ] = None,
    phrasings: Annotated[
        str, typer.Option(help="train: those for training; held-out: those kept from it; all.", metavar="SET")
    ] = "train",
    seed: Annotated[int, typer.Option(help="Draws phrasings and options, for each face on its own.")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first malformed record.")] = False,
) -> None:
    """Write questions, options, answers and labels about a dataset's faces as JSON lines."""
    check_phrasings(phrasings)
    tasks = task or None
    if tasks and "verification" in tasks and len(tasks) > 1:
        raise DatasetError(
            "verification cannot be asked beside other tasks",
            given=", ".join(tasks),
            expected="--task verification alone",
            do="run the command once for verification and once for the others",
        )
    path = Path(out)
    if not path.name:
        raise DatasetError(
            "cannot write questions", given=repr(out), expected="the path of a file", do="name a file"
        )
    counts: Counter[str] = Counter()
    about, labelled = 0, set[str]()
    if tasks == ["verification"]:
        from facemllm.data import read_pairs

        pairs = read_pairs(dataset, root, split, strict)
        lines, skipped, things = _about_pairs(pairs, seed, phrasings), pairs.skipped, "pairs"
    else:
        from facemllm.data import stream_dataset

        stream = stream_dataset(dataset, root, split, strict)
        lines, skipped, things = (
            _about_faces(stream, tasks, seed, phrasings, labelled),
            stream.skipped,
            "faces",
        )
    if path.is_dir():
        raise DatasetError(
            "cannot write questions",
            given=f"{out}, which is a folder",
            expected="the path of a file",
            do=f"pass {path / 'questions.jsonl'}",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            for found in lines:
                about += 1
                for line in found:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                    counts[line["task"]] += 1
        if things == "faces":
            skipped = stream.skipped
        if not about:
            raise DatasetError(
                f"{dataset} has no usable sample in split {split!r}",
                given=f"{root}; {skipped}",
                expected="samples of this split",
                do="ask for another split, or check that root holds the whole dataset",
            )
        if not counts:
            raise DatasetError(
                f"{dataset} has no labels of what is asked, so there is nothing to write",
                given=f"--task {', '.join(tasks or ())} of {about} {things} with {_listed(labelled)}",
                expected="at least one task that the dataset has labels of",
                do="name another --task, or leave it out for all that the dataset can answer",
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)  # a run that fails leaves no half file
    for name, count in sorted(counts.items()):
        typer.echo(f"{name:12} {count}")
    typer.echo(f"saved {path}: {counts.total()} questions about {about} {things}")
    typer.echo(str(skipped))
    if lacking := [name for name in dict.fromkeys(tasks or ()) if not counts[name]]:
        typer.echo(
            f"note: no questions about {', '.join(lacking)}: {dataset} has {_listed(labelled)}", err=True
        )
    if set(counts) == {"unknown"} and tasks is None:
        typer.echo(
            f"note: {dataset} has labels of none of the tasks that are asked by default, so only questions "
            "without an answer were written; name others with --task",
            err=True,
        )


def check_phrasings(phrasings: str) -> None:
    """Raise a DatasetError unless a set of phrasings exists."""
    if phrasings not in ("train", "held-out", "all"):
        raise DatasetError(
            "cannot choose phrasings",
            given=repr(phrasings),
            expected="train, held-out or all",
            do="choose one of these",
        )


def _listed(labelled: set[str]) -> str:
    return f"labels of {', '.join(sorted(labelled))}" if labelled else "no labels"


def _about_faces(
    stream: Any, tasks: list[str] | None, seed: int, phrasings: str, labelled: set[str]
) -> Iterator[list[Any]]:
    """Yield the questions about each face; ``labelled`` gathers what there are labels of."""
    from facemllm.data import ALL_FORMS, write_questions

    for sample in stream:
        labelled.update(sample.labels, (name for name in ("box", "landmarks") if getattr(sample, name)))
        if tasks and {"location", "parts"} & set(tasks):
            sample = _measured(sample)
        rng = random.Random(f"{seed}:{sample.id}")
        about = sample.model_dump(include=_ABOUT)
        found = write_questions(sample, rng, tasks, phrasings, forms=ALL_FORMS)
        yield [about | qa.model_dump() for qa in found]


def _about_pairs(pairs: Any, seed: int, phrasings: str) -> Iterator[list[Any]]:
    from facemllm.data import write_verification

    for pair in pairs:
        rng = random.Random(f"{seed}:{pair.first.id}:{pair.second.id}")
        about = {
            "id": f"{pair.first.id} {pair.second.id}",
            "images": [pair.first.image, pair.second.image],
            "dataset": pair.first.dataset,
            "split": pair.split,
            "fold": pair.fold,
            "licence": pair.first.licence,
        }
        yield [about | qa.model_dump() for qa in write_verification(pair, rng, phrasings)]


def _measured(sample: FaceSample) -> FaceSample:
    """Return a sample with the size of its picture, which places are asked relative to."""
    if sample.size is not None or (sample.box is None and sample.landmarks is None):
        return sample
    from PIL import Image

    try:
        with Image.open(sample.image) as image:  # the header alone
            return sample.model_copy(update={"size": image.size})
    except OSError:
        return sample
