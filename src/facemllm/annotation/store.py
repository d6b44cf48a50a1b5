"""Shards of records and rejects: each file appears whole or not at all."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

from facemllm.core.errors import ConfigError

FORMATS = ("jsonl", "webdataset")

Row = tuple[str, bytes | None]
"""JSON, and the crop's JPEG where crops are kept."""


class ShardWriter:
    """Writes ``records-00000.jsonl`` or ``.tar``, and ``rejects-00000.jsonl``.

    A webdataset shard holds ``KEY.json`` and ``KEY.txt`` (the caption), and ``KEY.jpg`` where crops are
    kept; the key is the record's number, as ids hold slashes.

    Args:
        out: The folder.
        format: "jsonl" or "webdataset".

    Raises:
        ConfigError: If the format is unknown.
    """

    def __init__(self, out: Path, format: str = "jsonl") -> None:
        if format not in FORMATS:
            raise ConfigError(
                "unknown format of shards", given=format, expected=" or ".join(FORMATS), do="choose one"
            )
        self.out, self.format = out, format

    def path(self, kind: str, shard: int) -> Path:
        """Return where a shard stands."""
        ending = "tar" if kind == "record" and self.format == "webdataset" else "jsonl"
        return self.out / f"{kind}s-{shard:05d}.{ending}"

    def write(self, kind: str, shard: int, rows: Iterable[Row]) -> None:
        """Write a shard beside its place, then move it there."""
        path = self.path(kind, shard)
        beside = path.with_name(f".{path.name}.part")
        with beside.open("wb") as file:
            if path.suffix == ".tar":
                _write_tar(file, rows, shard)
            else:
                file.writelines(body.encode() + b"\n" for body, _ in rows)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(self.out)


def _write_tar(file: io.BufferedWriter, rows: Iterable[Row], shard: int) -> None:
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number, (body, crop) in enumerate(rows):
            key = f"{shard:05d}{number:05d}"
            caption = json.loads(body)["caption"]
            parts = {"json": body.encode(), "txt": caption.encode()} | ({"jpg": crop} if crop else {})
            for ending, content in parts.items():
                entry = tarfile.TarInfo(f"{key}.{ending}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def _sync_folder(folder: Path) -> None:
    """Have the system write the folder's list of names to disk, where it can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # not possible on Windows
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
