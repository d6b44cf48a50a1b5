"""Where pictures come from: a folder or pattern of images, or img2dataset's webdataset shards.

A source is iterated as a stream, so memory does not grow with it, and splits into parts for several machines.
"""

from __future__ import annotations

import glob
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from facemllm.annotation.items import Item
from facemllm.core.errors import DatasetError

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""Endings of files that are taken for pictures."""

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_WILD = re.compile(r"[*?\[{]")
# What img2dataset and LAION call it, in lower case, and what it is called here.
_FIELDS = {
    "url": "url", "license": "licence", "licence": "licence", "sample_id": "sample_id", "sha256": "sha256",
    "nsfw": "nsfw", "punsafe": "nsfw", "similarity": "similarity",
}  # fmt: skip
_NSFW_WORDS = {"unlikely": 0.0, "unsure": 0.5, "nsfw": 1.0}


@runtime_checkable
class Source(Protocol):
    """Anything that yields items, and can be cut into parts."""

    def __iter__(self) -> Iterator[Item]:
        """Yield the pictures."""
        ...

    def parts(self) -> Iterable[Source]:
        """Yield sources that together hold the same pictures."""
        ...

    def count(self) -> int | None:
        """Return about how many pictures there are, or None if that is not cheap to know."""
        ...


class ImageSource:
    """Image files of a folder, or those that a pattern matches.

    Beside ``a.jpg`` a file ``a.json`` with img2dataset's fields is read for metadata.

    Args:
        pattern: A folder, which is searched with its subfolders, one picture, or a pattern such as
            ``photos/**/*.jpg``.
        licence: The terms of the pictures that say nothing themselves.
        files: Only these, as paths below the pattern's root; None for all.

    Raises:
        DatasetError: If nothing matches.
    """

    per_part = 256

    def __init__(
        self, pattern: str | os.PathLike[str], *, licence: str = "unknown", files: Sequence[str] | None = None
    ) -> None:
        self.pattern, self.licence, self.files = os.fspath(pattern), licence, files
        self.root = fixed_root(self.pattern)
        # What is not there must not stand for the folder it would be in: others' pictures would be sent away.
        if not _WILD.search(self.pattern) and not Path(self.pattern).exists():
            raise _nothing(self.pattern)
        if files is None and next(self._found(), None) is None:
            raise _nothing(self.pattern)

    def __iter__(self) -> Iterator[Item]:
        """Yield the files, folder by folder in order of their names."""
        for path in self._found() if self.files is None else (self.root / name for name in self.files):
            yield Item(
                path.relative_to(self.root).as_posix(),
                path=path,
                metadata=normalise(_sidecar(path), self.licence),
            )

    def parts(self) -> Iterator[ImageSource]:
        """Yield sources of a few hundred files each."""
        names = [path.relative_to(self.root).as_posix() for path in self._found()]
        for start in range(0, len(names), self.per_part):
            yield ImageSource(self.pattern, licence=self.licence, files=names[start : start + self.per_part])

    def count(self) -> int:
        """Return the number of files."""
        return sum(1 for _ in self._found()) if self.files is None else len(self.files)

    def _found(self) -> Iterator[Path]:
        if Path(self.pattern).is_file():
            yield from (path for path in [Path(self.pattern)] if path.suffix.lower() in IMAGES)
            return
        if not _WILD.search(self.pattern):
            for folder, folders, names in os.walk(self.root):
                folders.sort()
                yield from (
                    Path(folder, name) for name in sorted(names) if Path(name).suffix.lower() in IMAGES
                )
            return
        for name in glob.iglob(self.pattern, recursive=True):  # noqa: PTH207 (roots)
            if Path(name).suffix.lower() in IMAGES:
                yield Path(name)


class ShardSource:
    """Tar shards as img2dataset writes them: ``KEY.jpg``, ``KEY.json`` and ``KEY.txt`` one after another.

    Args:
        pattern: A tar file, a pattern such as ``shards/*.tar``, or a range such as
            ``shards/{00000..00099}.tar``.
        licence: The terms of the pictures that say nothing themselves.
        shards: Only these files; None for all that match.

    Raises:
        DatasetError: If nothing matches.
    """

    most_counted = 16

    def __init__(
        self,
        pattern: str | os.PathLike[str],
        *,
        licence: str = "unknown",
        shards: Sequence[Path] | None = None,
    ) -> None:
        self.pattern, self.licence = os.fspath(pattern), licence
        self.shards = list(shards) if shards is not None else _shards(self.pattern)
        if not self.shards:
            raise _nothing(self.pattern)

    def __iter__(self) -> Iterator[Item]:
        """Yield the pictures of one shard after another."""
        for shard in self.shards:
            yield from self._of(shard)

    def parts(self) -> Iterator[ShardSource]:
        """Yield a source for each shard."""
        for shard in self.shards:
            yield ShardSource(self.pattern, licence=self.licence, shards=[shard])

    def count(self) -> int:
        """Return the number of pictures, as img2dataset's ``_stats.json`` files or tables of contents say.

        Of many shards without such a file, the first few are counted and taken for the rest.
        """
        known = [_stated_count(shard) for shard in self.shards]
        unknown = [shard for shard, count in zip(self.shards, known, strict=True) if count is None]
        looked_at = unknown[: self.most_counted]
        total = sum(count for count in known if count is not None)
        if looked_at:
            total += round(sum(map(_count_of, looked_at)) / len(looked_at) * len(unknown))
        return total

    def _of(self, shard: Path) -> Iterator[Item]:
        key, files = "", dict[str, bytes]()
        try:
            with tarfile.open(shard, "r|*") as tar:
                for member in tar:
                    name = Path(member.name)
                    own = name.name.partition(".")[0]
                    if not member.isfile() or name.suffix.lower() not in IMAGES | {".json"}:
                        continue
                    if own != key:
                        yield from self._item(shard, key, files)
                        key, files = own, {}
                    content = tar.extractfile(member)
                    files[name.suffix.lower()] = b"" if content is None else content.read()
            yield from self._item(shard, key, files)
        except (tarfile.TarError, OSError, EOFError) as error:
            yield from self._item(shard, key, files)
            yield Item(f"{shard.stem}/", broken=f"the shard {shard.name} ends early ({error})")

    def _item(self, shard: Path, key: str, files: dict[str, bytes]) -> Iterator[Item]:
        data = next((content for ending, content in files.items() if ending in IMAGES), None)
        if data is not None:
            metadata = normalise(_json(files.get(".json", b"")), self.licence)
            yield Item(f"{shard.stem}/{key}", data=data, metadata=metadata)


def create_source(source: str | os.PathLike[str] | Source, *, licence: str = "unknown") -> Source:
    """Return a source for a folder, a pattern of images or of tar shards, or the instance given.

    Raises:
        DatasetError: If nothing matches.
    """
    if not isinstance(source, (str, os.PathLike)):
        return source
    text = os.fspath(source)
    folder = Path(text)
    if text.endswith(".tar"):
        return ShardSource(text, licence=licence)
    if folder.is_dir() and next(folder.glob("*.tar"), None) is not None:
        return ShardSource(str(folder / "*.tar"), licence=licence)
    return ImageSource(text, licence=licence)


def fixed_root(pattern: str) -> Path:
    """Return the folder that a pattern starts from, which ids are relative to.

    Example:
        >>> fixed_root("photos/2020*/a/*.jpg").as_posix()
        'photos'
    """
    match = _WILD.search(pattern)
    if match is None:
        path = Path(pattern)
        return path if path.is_dir() else path.parent
    return Path(pattern[: match.start()] + "x").parent


def normalise(raw: dict[str, Any], licence: str = "unknown") -> dict[str, Any]:
    """Return the fields that filters and records need, under one name each; captions are left behind.

    Example:
        >>> normalise({"URL": "http://a/b.jpg", "NSFW": "UNLIKELY", "TEXT": "a caption", "LICENSE": "?"})
        {'licence': 'unknown', 'url': 'http://a/b.jpg', 'nsfw': 0.0}
    """
    found: dict[str, Any] = {"licence": licence}
    for key, value in raw.items():
        name = _FIELDS.get(key.lower())
        if name is None or value in (None, "", "?"):
            continue
        if name == "nsfw":
            value = _nsfw(value)
        elif name != "similarity":
            value = str(value)
        if value is not None:
            found[name] = value
    return found


def _nsfw(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return _NSFW_WORDS.get(str(value).strip().lower())


def _shards(pattern: str) -> list[Path]:
    match = _RANGE.search(pattern)
    if match is None:
        return sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207 (roots)
    first, last = match.groups()
    names = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
    return [
        path for name in names for path in _shards(pattern[: match.start()] + name + pattern[match.end() :])
    ]


def _stated_count(shard: Path) -> int | None:
    """Return how many pictures img2dataset says it wrote into a shard."""
    try:
        count = _json(shard.with_name(f"{shard.stem}_stats.json").read_bytes()).get("successes")
    except OSError:
        return None
    return count if isinstance(count, int) else None


def _count_of(shard: Path) -> int:
    try:
        with tarfile.open(shard) as tar:
            return sum(Path(member.name).suffix.lower() in IMAGES for member in tar)
    except (tarfile.TarError, OSError):
        return 1  # it will be one reject


def _sidecar(path: Path) -> dict[str, Any]:
    try:
        return _json(path.with_suffix(".json").read_bytes())
    except OSError:
        return {}


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.load(io.BytesIO(data))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _nothing(pattern: str) -> DatasetError:
    return DatasetError(
        "no pictures to annotate",
        given=repr(pattern),
        expected="a folder or pattern of images, or of img2dataset's .tar shards",
        do="check the path; quote a pattern, so that the shell does not expand it",
    )
