"""What is said where an optional library is not installed."""

import sys

import pytest
from PIL import Image

from facemllm.core.errors import MissingExtraError
from facemllm.data import FaceSample, export_dataset, find_leaks, fingerprint, read_dataset
from facemllm.data.figures import draw_counts
from facemllm.data.schema import QA
from facemllm.processing.references import read_reference


@pytest.fixture
def without(monkeypatch):
    """Make importing a package fail, as if it were not installed."""

    def hide(*names):
        for name in names:
            for loaded in [module for module in sys.modules if module.split(".")[0] == name]:
                monkeypatch.delitem(sys.modules, loaded)
            monkeypatch.setitem(sys.modules, name, None)

    return hide


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.linear_gradient("L").save(path)
    return path


def test_parquet_needs_pyarrow(without, tmp_path):
    (tmp_path / "laion_face_part_00000.parquet").write_bytes(b"PAR1")
    without("pyarrow")
    with pytest.raises(MissingExtraError, match=r"needs the package 'pyarrow'") as caught:
        read_dataset("laionface", tmp_path)
    assert caught.value.do == "pip install 'facemllm[data]'"
    with pytest.raises(MissingExtraError, match="pyarrow"):
        read_reference(f"{tmp_path}/laion_face_part_00000.parquet#0/image")


def test_mat_files_and_copies_need_scipy(without, photo, tmp_path):
    (tmp_path / "photo.mat").write_bytes(b"")
    without("scipy")
    with pytest.raises(MissingExtraError, match=r"reading \.mat files needs"):
        read_dataset("aflw2000", tmp_path)
    with pytest.raises(MissingExtraError, match="finding copies needs"):
        find_leaks(fingerprint([("a", str(photo))]))


def test_parquet_exports_need_datasets_and_plots_matplotlib(without, photo, tmp_path):
    without("datasets", "matplotlib")
    sample = FaceSample(id="1", image=str(photo), labels={}, dataset="mine", licence="own")
    with pytest.raises(MissingExtraError, match="writing parquet files needs"):
        export_dataset([sample], lambda one: [QA(question="?", answer="!", task="x")], tmp_path, "parquet")
    with pytest.raises(MissingExtraError, match="drawing plots needs"):
        draw_counts("ages", {"1": 2}, tmp_path / "x.png")
