"""Frames of a film and the labels that belong to them by number."""

from __future__ import annotations

import re
from pathlib import Path

from facemllm.data.readers.base import is_picture

_NUMBER = re.compile(r"(\d+)(?:_(?:aligned|cropped))?\.\w+$")


def numbered(folder: Path) -> dict[int, Path]:
    """Return the pictures in a folder by the number at the end of their names.

    Only one film is held at a time, so this does not grow with the dataset.
    """
    if not folder.is_dir():
        return {}
    found = ((_NUMBER.search(path.name), path) for path in folder.iterdir() if is_picture(path.name))
    return {int(match[1]): path for match, path in found if match}
