"""Faces for quick runs, made once."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def made_faces(tmp_path_factory, portrait: str) -> Path:
    """A folder laid out as UTKFace with eight variations of one real face."""
    from PIL import Image, ImageEnhance

    photo = Image.open(portrait).convert("RGB")
    face = photo.crop((round(0.25 * photo.width), 0, round(0.75 * photo.width), round(0.5 * photo.width)))
    folder = tmp_path_factory.mktemp("faces") / "utkface"
    folder.mkdir()
    for index in range(8):
        image = ImageEnhance.Brightness(face.resize((128, 128))).enhance(0.7 + 0.08 * index)
        name = f"{20 + 2 * index}_{index % 2}_{index % 5}_2017010913{index:011d}.jpg.chip.jpg"
        image.rotate(3 * index - 12).save(folder / name)
    return folder.parent
