"""CelebA: 40 attributes of 202,599 aligned faces.

The attribute Male becomes the label ``gender``, so that it is asked only where gender is asked for; the
other 39 become ``attributes``. Boxes are left out: the published ones refer to the pictures before alignment.
Source: Liu et al., "Deep Learning Face Attributes in the Wild", ICCV 2015.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facemllm.core.errors import DatasetError
from facemllm.data.readers.base import READERS, Reader, Unusable
from facemllm.data.schema import FaceSample
from facemllm.data.vocabularies import CELEBA_ATTRIBUTES

_ATTRIBUTES, _PARTITION, _IDENTITY = "list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt"


@READERS.register("celeba")
class CelebA(Reader):
    """Official splits ``train``, ``val`` and ``test``; identities where identity_CelebA.txt is present."""

    name = "celeba"
    licence = "non-commercial research"
    layout = f"{_ATTRIBUTES} and {_PARTITION} beside img_align_celeba/"
    splits = ("train", "val", "test")
    folders = ("celeba",)

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        return all((folder / name).exists() for name in (_ATTRIBUTES, _PARTITION, "img_align_celeba"))

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of all splits."""
        partition = self._read_pairs(_PARTITION)
        identity = self._read_pairs(_IDENTITY) if (self.root / _IDENTITY).is_file() else {}
        path = self.root / _ATTRIBUTES
        rows = [line.split() for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
        # The count line is missing in some copies of the list.
        counted = bool(rows) and len(rows[0]) == 1 and rows[0][0].isdigit()
        names, body = (rows[1:2], rows[2:]) if counted else (rows[:1], rows[1:])
        if not names or not set(names[0]) <= set(CELEBA_ATTRIBUTES.codes):
            raise DatasetError(
                f"{_ATTRIBUTES} does not begin with attribute names",
                given=" ".join(names[0][:5]) if names else "an empty file",
                expected=", ".join(CELEBA_ATTRIBUTES.codes[:3]) + " ...",
                do="use the list as published",
            )
        labels = [str(CELEBA_ATTRIBUTES.label(name)) for name in names[0]]
        found = sum(bool(row) for row in body)
        if counted and int(rows[0][0]) != found:
            reason = f"count line disagrees with the {found} rows that follow"
            self.skip(f"{_ATTRIBUTES}, line 1", rows[0][0], reason)
        for number, row in enumerate(body, start=3 if counted else 2):
            if row:
                where, text = f"{_ATTRIBUTES}, line {number}", " ".join(row[:6])
                yield from self.attempt(where, text, self._read_row, row, labels, partition, identity)

    def _read_row(
        self, row: list[str], names: list[str], partition: dict[str, str], identity: dict[str, str]
    ) -> FaceSample:
        file, *values = row
        if len(values) != len(names):
            raise Unusable(f"expected {len(names)} values")
        if not set(values) <= {"1", "-1"}:
            raise Unusable("a value is neither 1 nor -1")
        if partition.get(file) not in {"0", "1", "2"}:
            raise Unusable(f"no split in {_PARTITION}")
        attributes = {name: value == "1" for name, value in zip(names, values, strict=True)}
        male = attributes.pop("male", None)
        gender = {} if male is None else {"gender": "male" if male else "female"}
        return self.sample(
            self.root / "img_align_celeba" / file,
            labels={**gender, "attributes": attributes},
            groups=gender,
            split=self.splits[int(partition[file])],
            identity=identity.get(file),
        )

    def _read_pairs(self, name: str) -> dict[str, str]:
        lines = (self.root / name).read_text(encoding="utf-8-sig", errors="replace").splitlines()
        pairs = {}
        for number, line in enumerate(lines, start=1):
            fields = line.split()
            if len(fields) == 2:
                pairs[fields[0]] = fields[1]
            elif fields:
                self.skip(f"{name}, line {number}", line, "expected a file name and a number")
        return pairs
