"""Pictures inside other files: a member of a tar shard, a row of a csv file, a cell of a parquet file.

A reference is the path of the file, a ``#`` and the place inside: ``shards/00000.tar#000000012.jpg``,
``fer2013.csv#4711`` (the row that begins at byte 4711), ``part.parquet#12/image`` (row 12, column image).
"""

from __future__ import annotations

import io
import tarfile
from functools import lru_cache
from pathlib import Path

from facemllm.core.errors import ImageError, MissingExtraError

_KINDS = (".tar", ".csv", ".parquet")


def is_reference(text: str) -> bool:
    """Say whether a text is a reference into a file rather than a path.

    Example:
        >>> is_reference("00000.tar#1.jpg"), is_reference("photo #1.jpg")
        (True, False)
    """
    path, found, place = text.rpartition("#")
    return bool(found and place) and path.lower().endswith(_KINDS)


def reference_size(text: str) -> int:
    """Return the bytes of the shard's member that a reference names; of other kinds, those of the file.

    What is not there has a size of -1.
    """
    name, _, place = text.rpartition("#")
    path = Path(name)
    if not path.is_file():
        return -1
    if path.suffix.lower() != ".tar":
        return path.stat().st_size
    try:
        return _members(str(path), path.stat().st_mtime_ns).get(place, (0, -1))[1]
    except tarfile.TarError:
        return -1


def read_reference(text: str) -> bytes:
    """Return the bytes of the picture that a reference names, in a common format.

    Raises:
        ImageError: If the file or the place in it does not exist.
        MissingExtraError: If a parquet file is named and pyarrow is not installed.
    """
    name, _, place = text.rpartition("#")
    path = Path(name)
    if path.is_file():
        readers = {".tar": _from_tar, ".csv": _from_csv, ".parquet": _from_parquet}
        try:
            found = readers[path.suffix.lower()](path, place)
        except MissingExtraError:
            raise
        except (ValueError, KeyError, IndexError, tarfile.TarError):
            found = None
        if found:
            return found
    raise ImageError(
        "cannot open a picture inside a file",
        given=f"{text[:200]!r}, where there is {'no such place' if path.is_file() else 'no such file'}",
        expected="shard.tar#member, table.csv#byte offset of a row, or table.parquet#row/column",
        do="check that the file is the one the records were written from",
    )


def _from_tar(path: Path, member: str) -> bytes | None:
    place = _members(str(path), path.stat().st_mtime_ns).get(member)
    if place is None:
        return None
    with path.open("rb") as file:
        file.seek(place[0])
        return file.read(place[1])


@lru_cache(maxsize=8)
def _members(path: str, changed: int) -> dict[str, tuple[int, int]]:
    """Return offset and size of each member; ``changed`` makes a rewritten file be read again."""
    with tarfile.open(path, "r:") as archive:
        return {member.name: (member.offset_data, member.size) for member in archive if member.isfile()}


def _from_csv(path: Path, offset: str) -> bytes | None:
    """Read a row that has, in one of its columns, the values of a square grey picture."""
    import numpy as np
    from PIL import Image

    with path.open("rb") as file:
        file.seek(int(offset))
        row = file.readline().decode("utf-8", errors="replace")
    values = max(row.split(","), key=len).strip().strip('"').split()
    side = round(len(values) ** 0.5)
    if side < 2 or side * side != len(values):
        return None
    pixels = np.array(values, dtype=np.int64).reshape(side, side)
    if pixels.min() < 0 or pixels.max() > 255:
        return None
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _from_parquet(path: Path, place: str) -> bytes | None:
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("pyarrow", extra="data", needed_for="reading parquet files") from None
    row, _, column = place.partition("/")
    index = int(row)
    file = parquet.ParquetFile(path)
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if index < rows:
            cell = file.read_row_group(group, columns=[column]).column(0)[index].as_py()
            return cell.get("bytes") if isinstance(cell, dict) else cell if isinstance(cell, bytes) else None
        index -= rows
    return None
