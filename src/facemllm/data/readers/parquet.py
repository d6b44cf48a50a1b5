"""Rows of parquet files, a batch at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from facemllm.core.errors import DatasetError, MissingExtraError

BATCH = 4096


def parquet_rows(path: Path, columns: Collection[str], *, batch: int = BATCH) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file with those of ``columns`` that it has.

    Raises:
        MissingExtraError: If pyarrow is not installed.
        DatasetError: If the file is no parquet file.
    """
    for rows in parquet_batches(path, columns, batch=batch):
        yield from rows.to_pylist()


def parquet_batches(path: Path, columns: Collection[str], *, batch: int = BATCH) -> Iterator[Any]:
    """Yield record batches of a file; raises as :func:`parquet_rows` does."""
    names = column_names(path)
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=batch, columns=[name for name in names if name in columns])


def column_names(path: Path) -> list[str]:
    """Return the columns of a file; raises as :func:`parquet_rows` does."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingExtraError("pyarrow", extra="data", needed_for="reading parquet files") from None
    try:
        return list(parquet.read_schema(path).names)
    except (ArrowException, OSError) as error:
        raise DatasetError(
            f"cannot read {path.name}",
            given=str(error).split("\n")[0][:200],
            expected="a complete parquet file",
            do="download it again",
        ) from None
