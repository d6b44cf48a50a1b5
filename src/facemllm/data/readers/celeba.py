"""CelebA: 40 attributes of 202,599 aligned faces.

The attribute Male becomes the label ``gender``, so that it is asked only where gender is asked for; the
other 39 become ``attributes``. Boxes are left out: the published ones (list_bbox_celeba.txt) refer to the
pictures before they were aligned and cropped, and mean nothing in ``img_align_celeba``.
Source: Liu et al., "Deep Learning Face Attributes in the Wild", ICCV 2015.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from facemllm.core.errors import DatasetError
from facemllm.data.readers.base import NOT_ASKED, READERS, Reader, Unusable
from facemllm.data.readers.tables import Companion, text_lines
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
    consent = NOT_ASKED
    vocabularies = (CELEBA_ATTRIBUTES,)

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        lists = all((folder / name).is_file() for name in (_ATTRIBUTES, _PARTITION))
        return lists and (folder / "img_align_celeba").is_dir()

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of all splits."""
        partition = Companion(self._pairs(_PARTITION))
        known = (self.root / _IDENTITY).is_file()
        identity = Companion(self._pairs(_IDENTITY) if known else iter(()))
        lines = text_lines(self.root / _ATTRIBUTES)
        number, line = next(lines, (1, ""))
        # The count line is missing in some copies of the list.
        count = int(line) if line.isdecimal() else None
        names = (line if count is None else next(lines, (1, ""))[1]).split()
        if not names or not set(names) <= set(CELEBA_ATTRIBUTES.codes) or len(set(names)) != len(names):
            raise DatasetError(
                f"{_ATTRIBUTES} does not begin with attribute names",
                given=" ".join(names[:5]) or "an empty file",
                expected=", ".join(CELEBA_ATTRIBUTES.codes[:3]) + " ...",
                do="use the list as published",
            )
        labels = [str(CELEBA_ATTRIBUTES.label(name)) for name in names]
        images = os.path.join(self.root, "img_align_celeba", "")  # noqa: PTH118 (text: paths are dear)
        found = 0
        for number, line in lines:
            found += 1
            row = line.split()
            where, text = f"{_ATTRIBUTES}, line {number}", " ".join(row[:6])
            yield from self.attempt(where, text, self._read_row, row, images, labels, partition, identity)
        if count not in (None, found):
            reason = f"count line disagrees with the {found} rows that follow"
            self.skip(f"{_ATTRIBUTES}, line 1", str(count), reason)

    def _read_row(
        self, row: list[str], images: str, names: list[str], partition: Companion, identity: Companion
    ) -> FaceSample:
        file, *values = row
        if len(values) != len(names):
            raise Unusable(f"expected {len(names)} values")
        if not set(values) <= {"1", "-1"}:
            raise Unusable("a value is neither 1 nor -1")
        split = partition.get(file)
        if split not in {"0", "1", "2"}:
            raise Unusable(f"no split in {_PARTITION}")
        attributes = {name: value == "1" for name, value in zip(names, values, strict=True)}
        male = attributes.pop("male", None)
        gender = {} if male is None else {"gender": "male" if male else "female"}
        return self.sample(
            images + file,
            labels={**gender, "attributes": attributes},
            groups=gender,
            split=self.splits[int(split)],
            identity=identity.get(file),
        )

    def _pairs(self, name: str) -> Iterator[tuple[str, str]]:
        for number, line in text_lines(self.root / name):
            fields = line.split()
            if len(fields) == 2:
                yield fields[0], fields[1]
            else:
                self.skip(f"{name}, line {number}", line, "expected a file name and a number")
