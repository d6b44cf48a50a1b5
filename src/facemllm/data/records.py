"""Records on disk: samples as JSON lines, or with their pictures in tar shards; validated when read.

JSON lines hold one :class:`FaceSample` each. A folder of shards holds ``00000.tar`` ... with ``key.jpg``,
``key.json`` (the sample) and, where questions were written, ``key.questions.json``; webdataset reads them as
they are. A ``manifest.json`` beside either names the datasets, their terms, the vocabularies of the labels
with versions and classes, and the shards with their checksums.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from facemllm.core.config import StrictModel, validate
from facemllm.core.errors import DatasetError, ImageError
from facemllm.data.readers.base import READERS, Reader, Unusable
from facemllm.data.readers.tables import text_lines
from facemllm.data.schema import QA, SCHEMA_VERSION, FaceSample, SkipReport
from facemllm.data.shards import ShardWriter, tar_groups
from facemllm.data.vocabularies import LANDMARK_SCHEMES

MANIFEST = "manifest.json"


class Manifest(StrictModel):
    """What a set of records consists of.

    Attributes:
        version: Of the schema of its records.
        records: How many there are.
        datasets: How many come from each dataset.
        licences: The terms of each dataset; whoever uses the whole is bound by all of them.
        consents: What is known of the consent of the people of each dataset.
        vocabularies: Version and classes, in the dataset's order, of every vocabulary labels were read with.
        shards: Number of records and SHA-256 of each shard.
    """

    version: Literal[1] = SCHEMA_VERSION
    records: int
    datasets: dict[str, int]
    licences: dict[str, list[str]]
    consents: dict[str, list[str]] = Field(default_factory=dict)
    vocabularies: dict[str, dict[str, Any]] = Field(default_factory=dict)
    shards: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Sources:
    """Counts where records come from and under which terms, for a manifest or an export."""

    def __init__(self) -> None:
        self.datasets: Counter[str] = Counter()
        self.licences: dict[str, set[str]] = {}
        self.consents: dict[str, set[str]] = {}
        self.schemes: set[str] = set()

    def add(self, sample: FaceSample) -> None:
        """Count a sample."""
        self.datasets[sample.dataset] += 1
        self.licences.setdefault(sample.dataset, set()).add(sample.licence)
        if sample.consent:
            self.consents.setdefault(sample.dataset, set()).add(sample.consent)
        if sample.landmarks:
            self.schemes.add(sample.landmarks.scheme)

    def manifest(self, shards: dict[str, dict[str, Any]] | None = None) -> Manifest:
        """Return what was counted."""
        return Manifest(
            records=self.datasets.total(),
            datasets=dict(sorted(self.datasets.items())),
            licences={name: sorted(terms) for name, terms in sorted(self.licences.items())},
            consents={name: sorted(notes) for name, notes in sorted(self.consents.items())},
            vocabularies=self._vocabularies(),
            shards=shards or {},
        )

    def _vocabularies(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for name in self.datasets:
            used = READERS.get(name).vocabularies if name in READERS else ()  # type: ignore[attr-defined]
            for vocabulary in used:
                classes = {"codes": list(vocabulary.codes), "labels": list(vocabulary.labels)}
                found[vocabulary.name] = {"version": vocabulary.version, **classes}
        for scheme in sorted(self.schemes):
            found[f"landmarks {scheme}"] = {"count": LANDMARK_SCHEMES[scheme].count}
        return found


def write_jsonl(samples: Iterable[FaceSample], path: str | Path) -> Manifest:
    """Write samples as JSON lines, and a manifest beside them.

    Pictures below the file's folder are named relative to it, so that the folder can be moved.

    Example:
        >>> import tempfile
        >>> sample = FaceSample(id="1", image="1.jpg", labels={"age": 34}, dataset="mine", licence="own")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     manifest = write_jsonl([sample], Path(folder) / "records.jsonl")
        ...     [again] = read_jsonl(Path(folder) / "records.jsonl")
        >>> manifest.datasets, again.labels
        ({'mine': 1}, {'age': 34.0})
    """
    path, sources = Path(path), Sources()
    path.parent.mkdir(parents=True, exist_ok=True)
    base = path.parent.resolve()
    with path.open("w", encoding="utf-8") as file:
        for sample in samples:
            sources.add(sample)
            image = Path(sample.image)
            if image.is_absolute() and image.resolve().is_relative_to(base):
                sample = sample.model_copy(update={"image": image.resolve().relative_to(base).as_posix()})
            file.write(sample.model_dump_json(exclude_defaults=True, exclude={"version"})[:-1])
            file.write(f',"version":{sample.version}}}\n')
    manifest = sources.manifest()
    _manifest_of(path).write_text(manifest.model_dump_json(indent=1) + "\n")
    return manifest


def read_jsonl(
    path: str | Path, *, strict: bool = False, skipped: SkipReport | None = None
) -> Iterator[FaceSample]:
    """Yield the samples of a file, each validated.

    Args:
        path: The file.
        strict: Raise on the first malformed record; otherwise it is left out.
        skipped: Counts what is left out.

    Raises:
        DatasetError: If the file is missing, or (strict) a record is malformed.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(
            "cannot read records",
            given=path,
            expected="a file of JSON lines, as write_jsonl writes it",
            do="check the path",
        )
    report = SkipReport() if skipped is None else skipped
    for number, line in text_lines(path):
        try:
            sample = _sample(line.encode())
        except Unusable as reason:
            _leave_out(report, f"{path.name}, line {number}", line[:200], str(reason), strict)
            continue
        inside = path.parent / sample.image
        if not Path(sample.image).is_absolute() and inside.exists():
            sample = sample.model_copy(update={"image": str(inside)})
        yield sample


def write_shards(
    samples: Iterable[FaceSample],
    folder: str | Path,
    *,
    per_shard: int = 1000,
    questions: Callable[[FaceSample], Sequence[QA]] | None = None,
    strict: bool = False,
    skipped: SkipReport | None = None,
) -> Manifest:
    """Write samples with their pictures into tar shards, and a manifest beside them.

    Args:
        samples: What to write; their pictures are copied as they are.
        folder: Where to; it must not hold a manifest yet.
        per_shard: Records a shard.
        questions: Writes the questions to store with each sample.
        strict: Raise where a picture cannot be read; otherwise the sample is left out.
        skipped: Counts what is left out.

    Raises:
        DatasetError: If the folder holds records already, or (strict) a picture cannot be read.
    """
    folder = Path(folder)
    if (folder / MANIFEST).exists():
        raise DatasetError(
            "folder holds records already",
            given=str(folder),
            expected=f"a folder without {MANIFEST}",
            do="write to another folder, or remove this one first",
        )
    report = SkipReport() if skipped is None else skipped
    writer, sources = ShardWriter(folder, per_shard), Sources()
    for number, sample in enumerate(samples):
        try:
            data, suffix = picture_bytes(sample.image)
        except ImageError as error:
            _leave_out(report, sample.id, sample.image, error.what, strict)
            continue
        members = {suffix: data, "json": sample.model_dump_json().encode()}
        if questions is not None:
            written = [qa.model_dump(mode="json") for qa in questions(sample)]
            members["questions.json"] = json.dumps(written, ensure_ascii=False).encode()
        writer.write(f"{number:09d}", members)
        sources.add(sample)
    writer.close()
    shards = {
        name: {"records": count, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}
        for name, count in writer.counts.items()
    }
    manifest = sources.manifest(shards)
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
    return manifest


@READERS.register("records")
class Records(Reader):
    """Records written by this library: ``*.jsonl``, or shards with their manifest.

    Samples keep the dataset, split, terms and provenance they were written with.
    """

    name = "records"
    licence = "that of each record"
    layout = f"*.jsonl of samples, or 00000.tar ... beside {MANIFEST}"
    splits = ("train", "val", "validation", "test")
    folders = ("records",)

    def recognises(self, folder: Path) -> bool:
        """Say whether records are here."""
        return any(_is_records(path) for path in folder.glob("*.jsonl")) or (
            (folder / MANIFEST).is_file() and any(folder.glob("*.tar"))
        )

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of all files, then of all shards."""
        for path in sorted(path for path in self.root.glob("*.jsonl") if _is_records(path)):
            yield from read_jsonl(path, strict=self.strict, skipped=self.skipped)
        if (self.root / MANIFEST).is_file():
            manifest = read_manifest(self.root / MANIFEST)
            for name in manifest.shards:
                yield from self._read_shard(self.root / name)

    def _read_shard(self, path: Path) -> Iterator[FaceSample]:
        if not path.is_file():
            raise DatasetError(
                f"shard {path.name} is missing",
                given=str(path.parent),
                expected=f"every shard that {MANIFEST} names",
                do="copy the whole folder",
            )
        try:
            for key, members in tar_groups(path, keep=("json",)):
                where = f"{path.name}, {key}"
                yield from self.attempt(where, key, self._read_members, path, key, members)
        except tarfile.TarError:
            self.skip(path.name, "", "shard is cut off or broken; what follows in it is lost")

    def _read_members(self, path: Path, key: str, members: dict[str, bytes]) -> FaceSample:
        picture = next((suffix for suffix in members if not suffix.endswith("json")), None)
        if picture is None:
            raise Unusable("no picture in the shard")
        sample = _sample(members.get("json", b""))
        return sample.model_copy(update={"image": f"{path}#{key}.{picture}"})


def read_manifest(path: str | Path) -> Manifest:
    """Return a manifest.

    Raises:
        DatasetError: If it is missing or not JSON.
        ConfigError: If it is malformed or of another version.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise DatasetError(
            "cannot read a manifest",
            given=path,
            expected="JSON as write_jsonl and write_shards write it",
            do="check the path, or write the records again",
        )
    return validate(Manifest, values, source=Path(path).name)


def _sample(line: bytes) -> FaceSample:
    try:
        values = json.loads(line)
    except ValueError:
        raise Unusable("record is not JSON") from None
    if not isinstance(values, dict):
        raise Unusable("record is not an object")
    if values.get("version") != SCHEMA_VERSION:
        raise Unusable(f"record is not of version {SCHEMA_VERSION} of the schema")
    try:
        return FaceSample.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ").partition(", got ")[0]
        raise Unusable(f"{'.'.join(map(str, first['loc']))}: {reason}") from None


def _is_records(path: Path) -> bool:
    """Say whether the first line of a file is a record, and not for instance a question."""
    with path.open("rb") as file:
        head = file.readline()
    try:
        values = json.loads(head)
    except ValueError:
        return False
    return isinstance(values, dict) and {"id", "image", "labels", "version"} <= set(values)


def picture_bytes(image: str) -> tuple[bytes, str]:
    """Return the bytes of the picture that a sample refers to, as they are, and the suffix of their format.

    Raises:
        ImageError: If the picture is not there.
    """
    from facemllm.processing.references import is_reference, read_reference

    if is_reference(image) and not Path(image).exists():
        suffix = Path(image.rpartition("#")[2]).suffix.lower().removeprefix(".")
        return read_reference(image), suffix or "png"
    path = Path(image)
    if not path.is_file():
        raise ImageError("image not found", given=image, expected="a file", do="check the path")
    return path.read_bytes(), path.suffix.lower().removeprefix(".")


def _leave_out(report: SkipReport, where: str, record: str, reason: str, strict: bool) -> None:
    if strict:
        raise DatasetError(
            f"records: {reason}",
            given=f"{record!r} at {where}",
            expected=f"a record of version {SCHEMA_VERSION}, with its picture",
            do="correct or remove the record, or go on without strict to leave it out",
        )
    report.add(where, record, reason)


def _manifest_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}.{MANIFEST}")
