"""FaceCaption-15M: 15 million addresses of LAION-Face with a box and a caption composed of attributes.

Columns were renamed between the releases; both are read. A row of version 2 may list several addresses of one
picture, of which the first counts.
Source: Dai et al., "15M Multimodal Facial Image-Text Dataset", arXiv 2407.08515.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facemllm.core.errors import DatasetError
from facemllm.data.readers.base import NOT_ASKED, READERS, Reader, Unusable
from facemllm.data.readers.parquet import column_names, parquet_rows
from facemllm.data.schema import FaceSample

_NAMES = {
    "url": ("url", "Url", "URL"),
    "box": ("box", "face_box", "Face_box"),
    "caption": ("caption", "face_caption", "Face_caption"),
    "alt_text": ("laion_caption", "Laion_caption"),
    "id": ("_id", "id"),
}


@READERS.register("facecaption")
class FaceCaption(Reader):
    """No splits; every record is ``train`` and refers to an address.

    The captions were written by language models from predicted attributes: they may be wrong, and they speak
    of gender and ethnicity.
    """

    name = "facecaption"
    licence = (
        "CC BY 4.0 for the captions, meant for research and education; every picture under the terms of its "
        "own page"
    )
    layout = (
        "FaceCaption-v1.parquet or FaceCaption-v2.parquet with columns url, box, caption and laion_caption"
    )
    splits = ("train",)
    folders = ("facecaption-15m", "facecaption")
    consent = NOT_ASKED

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        return any(folder.glob("FaceCaption-v*.parquet"))

    def read(self) -> Iterator[FaceSample]:
        """Yield the records of all tables."""
        for path in sorted(self.root.glob("FaceCaption-v*.parquet")):
            present = column_names(path)
            columns = {
                key: next((name for name in names if name in present), None) for key, names in _NAMES.items()
            }
            if lacking := [key for key in ("url", "box", "caption") if columns[key] is None]:
                raise DatasetError(
                    f"{path.name} lacks columns",
                    given=", ".join(present),
                    expected=f"also {', '.join(lacking)}",
                    do="use the table as published",
                )
            wanted = [name for name in columns.values() if name]
            for number, row in enumerate(parquet_rows(path, wanted)):
                found = {key: row[name] for key, name in columns.items() if name}
                where, text = f"{path.name}, row {number}", str(found["url"])[:100]
                yield from self.attempt(where, text, self._read_row, found, f"{path.stem}/{number}")

    def _read_row(self, row: dict[str, Any], place: str) -> FaceSample:
        url = (_text(row["url"]) or "").split(", ")[0].strip()
        if not url.lower().startswith(("http://", "https://")):
            raise Unusable("no address of a picture")
        caption = _text(row["caption"])
        if not caption:
            raise Unusable("no caption")
        labels = {"caption": caption}
        if alt_text := _text(row.get("alt_text")):
            labels["alt_text"] = alt_text
        provenance = {"url": url} | ({"id": str(row["id"])} if row.get("id") is not None else {})
        return self.record(
            place, url, box=_box(row["box"]), labels=labels, split="train", provenance=provenance
        )


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        value = value[0] if value else None
    return value.strip() or None if isinstance(value, str) else None


def _box(value: Any) -> tuple[float, ...]:
    try:
        corners = tuple(float(x) for x in (json.loads(value) if isinstance(value, str) else value))
    except (TypeError, ValueError):
        corners = ()
    if len(corners) != 4 or not (corners[0] < corners[2] and corners[1] < corners[3]):
        raise Unusable("box is not left, top, right, bottom")
    return corners
