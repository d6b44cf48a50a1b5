"""Tar shards as webdataset and img2dataset have them: the files of a record stand together under one key."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path


def tar_groups(path: Path, keep: Collection[str] | None = None) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield key and files, by suffix, of each record, reading the shard forward once.

    Args:
        path: The shard.
        keep: Read only the bytes of these suffixes; those of others are empty. None reads all.

    Raises:
        tarfile.TarError: Where the shard is broken or cut off; records before that place are yielded.
    """
    with tarfile.open(path, "r|") as archive:
        key, members = "", dict[str, bytes]()
        for member in archive:
            if not member.isfile():
                continue
            folder, slash, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            stem = folder + slash + stem
            if stem != key:
                if key:
                    yield key, members
                key, members = stem, {}
            file = archive.extractfile(member) if keep is None or suffix in keep else None
            members[suffix] = file.read() if file else b""
        # A whole archive goes on with empty blocks after its last member.
        if path.stat().st_size - archive.offset < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("the archive is cut off")
        if key:
            yield key, members


class ShardWriter:
    """Writes records into numbered tar files of at most ``most`` records; the same records, the same bytes.

    A shard has its name only once it is whole: an interrupted run leaves a ``.part`` file, never a cut shard.

    Args:
        folder: Where the shards go.
        most: Records a shard.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.most = folder, most
        self.counts: dict[str, int] = {}
        self._archive: tarfile.TarFile | None = None
        self._name = ""
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, key: str, members: Mapping[str, bytes]) -> str:
        """Write one record; return the name of its shard."""
        if self._archive is None or self.counts[self._name] >= self.most:
            self.close()
            self._name = f"{len(self.counts):05d}.tar"
            self.counts[self._name] = 0
            part = self.folder / f"{self._name}.part"
            self._archive = tarfile.open(part, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 (closed below)
        for suffix, data in members.items():
            info = tarfile.TarInfo(f"{key}.{suffix}")
            info.size, info.mode, info.mtime = len(data), 0o644, 0
            self._archive.addfile(info, io.BytesIO(data))
        self.counts[self._name] += 1
        return self._name

    def close(self) -> None:
        """Finish the shard that is being written."""
        if self._archive is not None:
            self._archive.close()
            (self.folder / f"{self._name}.part").replace(self.folder / self._name)
            self._archive = None
