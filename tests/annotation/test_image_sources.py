"""Which pictures a folder, a file or a pattern stands for."""

import pytest
from PIL import Image

from facemllm.annotation.sources import ImageSource
from facemllm.core.errors import DatasetError


@pytest.fixture
def photos(tmp_path):
    for name in ("private.jpg", "photos/a.jpg", "photos/b.png", "photos/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("no picture")
        else:
            Image.new("RGB", (8, 8)).save(path)
    return tmp_path


def found(pattern):
    return [item.id for item in ImageSource(str(pattern))]


def test_a_folder_a_file_and_a_pattern(photos):
    assert found(photos / "photos") == ["a.jpg", "b.png"]
    assert found(photos / "photos" / "a.jpg") == ["a.jpg"]
    assert found(photos / "photos" / "*.png") == ["b.png"]


@pytest.mark.parametrize("name", ["photso", "photos/c.jpg", "photos/notes.txt", "none/*.jpg"])
def test_what_is_not_there_does_not_stand_for_what_is_beside_it(photos, name):
    with pytest.raises(DatasetError, match="no pictures to annotate"):
        ImageSource(str(photos / name))
