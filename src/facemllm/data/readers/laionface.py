"""LAION-Face: 50 million pairs of a picture and its alt text, those of LAION-400M that show faces.

Three forms are read, in this order: shards of pictures as img2dataset writes them (``00000.tar``), the joined
tables (``laion_face_part_00000.parquet``), and the tables of LAION-400M (``part-00000-....snappy.parquet``)
with the list of ids that says which of their rows show faces. Nothing in the ``.pth`` files is run: they are
loaded as plain data, and refused if they hold anything else.

The alt text is what a web page said beside the picture. It is no description of the face, and becomes the
label ``alt_text``, never ``caption``.
Source: Zheng et al., "General Facial Representation Learning in a Visual-Linguistic Manner", CVPR 2022.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from facemllm.core.errors import DatasetError
from facemllm.data.readers.base import IMAGE_SUFFIXES, NOT_ASKED, READERS, Reader, Unusable
from facemllm.data.readers.parquet import parquet_batches, parquet_rows
from facemllm.data.schema import FaceSample, Landmarks
from facemllm.data.shards import tar_groups

TWENTY_MILLION = (0, 2, 5, 8, 13, 15, 17, 18, 21, 22, 24, 25, 28)
"""The parts that make up the publishers' selection of 20 million."""

_COLUMNS = ("SAMPLE_ID", "URL", "TEXT", "HEIGHT", "WIDTH", "LICENSE", "NSFW", "similarity")
_JOINED = re.compile(r"laion_face_part_(\d{5})\.parquet")
_WHOLE = re.compile(r"part-(\d{5})-.+\.parquet")
_SHARD = re.compile(r"\d{5,}\.tar")
_IDS = "laion_face_ids.pth"


@READERS.register("laionface")
class LAIONFace(Reader):
    """No splits; every record is ``train``.

    Records of tables refer to an address, since no picture was fetched. ``sample2detect_N.pth``, where it
    lies beside the tables, adds the box and the five landmarks of the face with the best score.

    Args:
        root: As for every reader.
        strict: As for every reader.
        seed: Unused.
        parts: Read only these of the 32 parts, such as :data:`TWENTY_MILLION`.
    """

    name = "laionface"
    licence = "ids and metadata CC BY 4.0; every picture under the terms of its own page (see provenance)"
    layout = (
        f"img2dataset shards 00000.tar ...; or laion_face_part_00000.parquet ... ({', '.join(_COLUMNS)}); or "
        f"part-00000-*.parquet of LAION-400M beside {_IDS}"
    )
    splits = ("train",)
    folders = ("laion-face", "laion_face", "laionface")
    consent = NOT_ASKED

    def __init__(
        self, root: str | Path, *, strict: bool = False, seed: int = 0, parts: Collection[int] | None = None
    ) -> None:
        super().__init__(root, strict=strict, seed=seed)
        self.parts = None if parts is None else frozenset(parts)

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of one of the layouts are here."""
        names = [path.name for path in folder.iterdir()]
        if any(_SHARD.fullmatch(name) or _JOINED.fullmatch(name) for name in names):
            return True
        return _IDS in names and any(_WHOLE.fullmatch(name) for name in names)

    def read(self) -> Iterator[FaceSample]:
        """Yield the records of the first form that is there."""
        names = sorted(path.name for path in self.root.iterdir())
        shards = [name for name in names if _SHARD.fullmatch(name)]
        joined = [match for name in names if (match := _JOINED.fullmatch(name))]
        whole = [match for name in names if (match := _WHOLE.fullmatch(name))]
        if shards:
            for name in shards:
                yield from self._read_shard(self.root / name)
            return
        ids = None if joined else self._ids()
        for match in joined or whole:
            part = int(match[1])
            if self.parts is None or part in self.parts:
                yield from self._read_part(self.root / match[0], part, None if ids is None else ids[part])

    def _read_part(self, path: Path, part: int, ids: Any) -> Iterator[FaceSample]:
        faces = self._detections(part)
        for number, row in enumerate(_rows(path, ids)):
            where, text = f"{path.name}, row {number}", str(row.get("URL"))[:100]
            yield from self.attempt(where, text, self._read_row, row, part, faces)

    def _read_row(self, row: dict[str, Any], part: int, faces: dict[int, Any]) -> FaceSample:
        url = row.get("URL")
        if not isinstance(url, str) or not url.lower().startswith(("http://", "https://")):
            raise Unusable("no address of a picture")
        fields = _fields(row, row.get("TEXT"), (row.get("WIDTH"), row.get("HEIGHT")))
        key = fields["provenance"].get("sample_id")
        if key is None:
            raise Unusable("no SAMPLE_ID")
        found = faces.get(int(key))
        if found:
            fields |= _best(found)
        groups = {"part": str(part)}
        return self.record(f"{part:05d}/{key}", url, split="train", groups=groups, **fields)

    def _read_shard(self, path: Path) -> Iterator[FaceSample]:
        try:
            for key, members in tar_groups(path, keep=("json",)):
                yield from self.attempt(f"{path.name}, {key}", key, self._read_pair, path, key, members)
        except tarfile.TarError:
            self.skip(path.name, "", "shard is cut off or broken; what follows in it is lost")

    def _read_pair(self, path: Path, key: str, members: dict[str, bytes]) -> FaceSample:
        suffix = next((name for name in members if f".{name.lower()}" in IMAGE_SUFFIXES), None)
        if suffix is None:
            raise Unusable("no picture in the shard")
        meta = _json(members.get("json", b""))
        if not meta:
            raise Unusable("no metadata beside the picture")
        fields = _fields(meta, meta.get("caption"), (meta.get("width"), meta.get("height")))
        place = f"{path.name}#{key}.{suffix}"
        return self.record(f"{path.stem}/{key}", str(path.with_name(place)), split="train", **fields)

    def _ids(self) -> list[Any]:
        """Return the sorted ids of each of the 32 parts: 8 bytes a face, the one thing held in memory."""
        import numpy as np

        parts = _load(self.root / _IDS)
        if not isinstance(parts, list) or not all(isinstance(part, list) for part in parts):
            raise _not_plain(self.root / _IDS, "a list of lists of ids")
        found = []
        while parts:
            found.append(np.sort(np.array(parts.pop(0), dtype=np.int64)))
        return found

    def _detections(self, part: int) -> dict[int, Any]:
        path = self.root / f"sample2detect_{part}.pth"
        if not path.is_file():
            return {}
        found = _load(path)
        if not isinstance(found, dict):
            raise _not_plain(path, "a dict from id to faces")
        return found


def _rows(path: Path, ids: Any) -> Iterator[dict[str, Any]]:
    if ids is None:
        yield from parquet_rows(path, _COLUMNS)
        return
    import numpy as np
    import pyarrow as pa

    for batch in parquet_batches(path, _COLUMNS):
        keys = batch.column("SAMPLE_ID").cast(pa.float64()).to_numpy(zero_copy_only=False)
        whole = np.nan_to_num(keys, nan=-1).astype(np.int64)
        places = np.minimum(np.searchsorted(ids, whole), max(len(ids) - 1, 0))
        kept = ids[places] == whole if len(ids) else np.zeros(len(whole), bool)
        yield from batch.filter(pa.array(kept)).to_pylist()


def _fields(row: dict[str, Any], text: Any, size: tuple[Any, Any]) -> dict[str, Any]:
    provenance = {
        name: str(row[column])
        for name, column in (
            ("url", "URL"), ("url", "url"), ("licence", "LICENSE"), ("nsfw", "NSFW"),
            ("similarity", "similarity"), ("key", "key"),
        )
        if row.get(column) is not None
    }  # fmt: skip
    if row.get("SAMPLE_ID") is not None:
        provenance["sample_id"] = str(int(row["SAMPLE_ID"]))
    fields: dict[str, Any] = {"labels": {}, "provenance": provenance}
    if isinstance(text, str) and text.strip():
        fields["labels"]["alt_text"] = text
    if all(isinstance(side, (int, float)) and side > 0 for side in size):
        fields["size"] = tuple(int(side) for side in size)
    return fields


def _best(faces: Any) -> dict[str, Any]:
    """Return box and landmarks of the face with the best score."""
    try:
        box, points, _ = max(faces, key=lambda face: float(face[2]))
        values = [
            float(value) for pair in points for value in (pair if hasattr(pair, "__len__") else (pair,))
        ]
        corners = tuple(float(value) for value in box)
    except (TypeError, ValueError, IndexError):
        raise Unusable("detections are not of the form (box, points, score)") from None
    if len(corners) != 4 or len(values) != 10:
        raise Unusable("detections are not of the form (box, points, score)")
    pairs = tuple(zip(values[::2], values[1::2], strict=True))
    return {"box": corners, "landmarks": Landmarks(scheme="five-1", points=pairs)}


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _load(path: Path) -> Any:
    import pickle

    import torch

    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise _not_plain(path, str(error).split("\n")[0][:150]) from None


def _not_plain(path: Path, what: str) -> DatasetError:
    return DatasetError(
        f"cannot read {path.name} as plain data",
        given=what,
        expected="lists, dicts and numbers saved by torch.save, and no code",
        do="take the file from its publishers; do not load it in other ways",
    )
