import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from facemllm.cli.main import app


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def fairface(tmp_path):
    root = tmp_path / "fairface"
    rows = ["file,age,gender,race,service_test"]
    for number in range(12):
        path = root / "train" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (20 * number, 90, 90)).save(path)
        gender = "Male" if number % 3 else "Female"
        rows.append(f"train/{number}.jpg,20-29,{gender},White,True")
    rows.append("train/99.jpg,20-29,Male,White,True")
    (root / "fairface_label_train.csv").write_text("\n".join(rows) + "\n")
    return root


def test_counts_are_printed_and_saved_with_plots_and_a_sheet(run, fairface, tmp_path):
    out = tmp_path / "out"
    result = run("stats", "--dataset", "fairface", "--root", fairface, "--out", out)
    assert result.exit_code == 0
    assert "fairface: 12 samples" in result.stdout
    assert "CC BY 4.0" in result.stdout
    assert "perceived gender female 4, male 8" in result.stdout
    assert "image not found" in result.stdout
    report = json.loads((out / "stats.json").read_text())
    assert report["labels"]["gender"]["counts"] == {"female": 4, "male": 8}
    assert report["skipped"]["reasons"] == {"image not found": 1}
    assert report["skipped"]["first"][0][0] == "fairface_label_train.csv, line 14"
    assert report["vocabularies"]["fairface-races"] == 1
    assert {path.name for path in out.glob("*.png")} >= {"labels_gender.png", "samples.png"}
    assert Image.open(out / "samples.png").width == 1024


def test_json_is_one_object_and_strict_stops(run, fairface):
    result = run("stats", "-d", "fairface", "--root", fairface, "--json")
    assert json.loads(result.stdout)["samples"] == 12
    result = run("stats", "-d", "fairface", "--root", fairface, "--strict")
    assert "image not found" in str(result.exception)
