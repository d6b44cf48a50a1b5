"""Questions and answers in the formats of other trainers, each export with the licences of its sources."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from facemllm.core.errors import DatasetError, MissingExtraError
from facemllm.data.records import Manifest, Sources
from facemllm.data.schema import QA, FaceSample

EXPORT_FORMATS = ("llava", "llama-factory", "ms-swift", "parquet")
"""The formats that can be written."""

IMAGE = "<image>"
LICENCES = "LICENCES.json"
_ROWS = 256  # pictures held at once while parquet is written

Item = dict[str, Any]
Ask = Callable[[FaceSample], Sequence[QA]]


def export_dataset(
    samples: Iterable[FaceSample], questions: Ask, out: str | Path, format: str, *, name: str = "facemllm"
) -> Manifest:
    """Write a dataset of conversations, one for each sample that has questions.

    Every item names the dataset and the licence it comes from, and ``LICENCES.json`` lists the terms of all
    sources: whoever trains on the whole is bound by each of them.

    Args:
        samples: What to write about; pictures are referred to by path (``parquet`` holds them).
        questions: Writes the questions about a sample.
        out: Folder to write to.
        format: One of :data:`EXPORT_FORMATS`. ``llava``: NAME.json, a list of conversations.
            ``llama-factory``: NAME.json in its sharegpt form, and ``dataset_info.json``. ``ms-swift``:
            NAME.jsonl of messages. ``parquet``: NAME.parquet, through the library ``datasets``.
        name: Of the files.

    Raises:
        DatasetError: If the format is unknown, or no sample has a question.
        MissingExtraError: If ``datasets`` is not installed and parquet is asked for.
    """
    if format not in EXPORT_FORMATS:
        raise DatasetError(
            "unknown format of an export",
            given=repr(format),
            expected=f"one of {', '.join(EXPORT_FORMATS)}",
            do="name one of these",
        )
    folder, sources = Path(out), Sources()
    found = _pairs(samples, questions, sources)
    first = next(found, None)
    if first is None:  # before anything is written
        raise DatasetError(
            "nothing to export",
            given="no sample with a question",
            expected="samples with labels of the tasks asked for",
            do="name other tasks or another split",
        )
    folder.mkdir(parents=True, exist_ok=True)
    pairs = chain([first], found)
    if format == "llava":
        _write_list(folder / f"{name}.json", (llava_item(*pair) for pair in pairs))
    elif format == "llama-factory":
        _write_list(folder / f"{name}.json", (messages_item(*pair) for pair in pairs))
        (folder / "dataset_info.json").write_text(json.dumps({name: _info(name)}, indent=1) + "\n")
    elif format == "ms-swift":
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for pair in pairs:
                file.write(json.dumps(messages_item(*pair), ensure_ascii=False) + "\n")
    else:
        _write_parquet(folder / f"{name}.parquet", (messages_item(*pair) for pair in pairs))
    manifest = sources.manifest()
    (folder / LICENCES).write_text(manifest.model_dump_json(indent=1, exclude={"shards"}) + "\n")
    return manifest


def llava_item(sample: FaceSample, found: Sequence[QA]) -> Item:
    """Return a conversation as LLaVA's trainer reads it: the picture stands before the first question."""
    turns = []
    for number, qa in enumerate(found):
        question = qa.question.replace(IMAGE, "")
        turns.append({"from": "human", "value": question if number else f"{IMAGE}\n{question}"})
        turns.append({"from": "gpt", "value": qa.answer})
    return {"id": sample.id, "image": sample.image, "conversations": turns, **_source(sample)}


def messages_item(sample: FaceSample, found: Sequence[QA]) -> Item:
    """Return a conversation as messages with a list of images, with as many ``<image>`` as images."""
    messages = []
    for number, qa in enumerate(found):
        question = qa.question.replace(IMAGE, "")
        messages.append({"role": "user", "content": question if number else f"{IMAGE}{question}"})
        messages.append({"role": "assistant", "content": qa.answer})
    return {"messages": messages, "images": [sample.image], "id": sample.id, **_source(sample)}


def _source(sample: FaceSample) -> Item:
    return {"source": sample.dataset, "licence": sample.licence, "split": sample.split}


def _pairs(
    samples: Iterable[FaceSample], questions: Ask, sources: Sources
) -> Iterator[tuple[FaceSample, Sequence[QA]]]:
    for sample in samples:
        found = questions(sample)
        if found:
            sources.add(sample)
            yield sample, found


def _write_list(path: Path, items: Iterable[Item]) -> None:
    """Write a JSON list item by item, so that it is never held as a whole."""
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for number, item in enumerate(items):
            file.write(",\n" if number else "\n")
            json.dump(item, file, ensure_ascii=False)
        file.write("\n]\n")


def _write_parquet(path: Path, items: Iterable[Item]) -> None:
    try:
        import datasets
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("datasets", extra="data", needed_for="writing parquet files") from None
    from facemllm.data.records import picture_bytes

    text = datasets.Value("string")
    features = datasets.Features(
        {
            "id": text,
            "messages": [{"role": text, "content": text}],
            "images": [datasets.Image()],
            "source": text,
            "licence": text,
            "split": text,
        }
    )
    schema = features.arrow_schema  # with the notes by which ``datasets`` knows the pictures again
    with parquet.ParquetWriter(path, schema) as writer:
        rows: list[Item] = []
        for item in items:
            pictures = [{"bytes": picture_bytes(image)[0], "path": None} for image in item["images"]]
            rows.append({**item, "images": pictures})
            if len(rows) == _ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _info(name: str) -> Item:
    """Return the entry of ``dataset_info.json`` that LLaMA-Factory finds a dataset by."""
    return {
        "file_name": f"{name}.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
        },
    }
