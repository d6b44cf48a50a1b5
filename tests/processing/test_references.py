import io
import tarfile

import pytest
from PIL import Image

from facemllm.core.errors import ImageError
from facemllm.processing.reading import load_image
from facemllm.processing.references import is_reference, read_reference


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "00000.tar"
    with tarfile.open(path, "w") as archive:
        for name, colour in (("1.png", "red"), ("2.png", "blue")):
            info = tarfile.TarInfo(name)
            info.size = len(png(colour))
            archive.addfile(info, io.BytesIO(png(colour)))
    return path


def test_members_of_a_shard(shard):
    assert read_reference(f"{shard}#2.png") == png("blue")
    assert load_image(f"{shard}#1.png").getpixel((3, 3)) == (255, 0, 0)


def test_a_shard_written_again_is_read_again(shard):
    assert read_reference(f"{shard}#2.png") == png("blue")
    with tarfile.open(shard, "w") as archive:
        info = tarfile.TarInfo("2.png")
        info.size = len(png("green"))
        archive.addfile(info, io.BytesIO(png("green")))
    assert load_image(f"{shard}#2.png").getpixel((3, 3)) == (0, 128, 0)


def test_cells_of_a_parquet_file(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"bytes": png(colour), "path": None} for colour in ("red", "blue", "green")]
    path = tmp_path / "part.parquet"
    parquet.write_table(pa.table({"image": rows}), path, row_group_size=2)
    assert load_image(f"{path}#2/image").getpixel((0, 0)) == (0, 128, 0)


@pytest.mark.parametrize(
    "place", ["00000.tar#9.png", "none.tar#1.png", "00000.tar#../1.png", "a.csv#x", "a.csv#0"]
)
def test_places_that_are_not_there(shard, place):
    (shard.parent / "a.csv").write_text("emotion,pixels\n3,1 2 3\n")
    with pytest.raises(ImageError, match="inside a file"):
        load_image(f"{shard.parent}/{place}")


def test_a_file_whose_name_looks_like_a_reference_is_a_file(tmp_path):
    path = tmp_path / "odd.tar#1.png"
    path.write_bytes(png("red"))
    assert is_reference(str(path))
    assert load_image(str(path)).size == (20, 10)
