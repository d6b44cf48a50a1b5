import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from facemllm.cli.main import app


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("format", ["llava", "llama-factory", "ms-swift", "parquet"])
def test_export(run, tmp_path, format):
    root = tmp_path / "utkface"
    root.mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16)).save(root / f"{20 + number}_1_2_2017{number}.png")
    out = tmp_path / "out"
    result = run("export", "-d", "utkface", "--root", root, "-o", out, "-f", format, "--limit", "2")
    assert result.exit_code == 0, result.exception
    assert "3 conversations" in result.stdout
    assert "terms of utkface: non-commercial research" in result.stdout
    assert json.loads((out / "LICENCES.json").read_text())["datasets"] == {"utkface": 3}
    assert any(path.stem == "utkface" for path in out.iterdir())


def test_an_unknown_format_is_refused(run, tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "20_1_2_2017.png")
    result = run("export", "-d", "utkface", "--root", tmp_path, "-o", tmp_path / "out", "-f", "coco")
    assert "unknown format of an export" in str(result.exception)
