"""Files that are whole or not there at all, also after a crash."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from facemllm.core.errors import TrainingError


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def make_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Make an .npy file of zeros for an array that is written through memory, with all of its room taken.

    Without, a file has no room of its own yet: on a disk that is full by then, the write through memory ends
    the process by a signal (SIGBUS) that no error tells of.

    Raises:
        TrainingError: If there is not enough room.

    Example:
        >>> import tempfile
        >>> array = make_array(Path(tempfile.mkdtemp()) / "a.npy", np.uint8, (2, 3))
        >>> array[1] = 7
        >>> array.tolist()
        [[0, 0, 0], [7, 7, 7]]
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        _take_room(path)
    except OSError as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)  # gives a full disk its room back
        raise TrainingError(
            "no room for a cache",
            given=f"{path} of {size / 2**20:,.1f} MiB ({error})",
            expected="as much room on the disk, and the right to write there",
            do="make room, or use fewer samples (`limit`) or `views`, then go on with resume=True",
        ) from error
    return array


def _take_room(path: Path) -> None:
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise  # some file systems cannot do it, which is not the user's fault


def write_note(path: Path, text: str) -> None:
    """Do what :func:`write_whole` does, for what a run writes down of itself.

    Raises:
        TrainingError: If it cannot be written, for example on a full disk.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise TrainingError(
            "cannot write down how far the run is",
            given=f"{path} ({error})",
            expected="room on the disk, and the right to write there",
            do="make room, then go on with resume=True",
        ) from error


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside the old one, then put it in its place.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.json"
        >>> write_whole(path, "{}")
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('{}', 1)
    """
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)  # noqa: PTH105 (the step that everything hangs on, by its plain name)
    sync(path.parent)
