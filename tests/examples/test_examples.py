"""The examples run as a user runs them: as programs, in a folder that is not the repository."""

import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
needs_examples = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="examples are not beside the tests")
needs_built_in = pytest.mark.skipif(
    not (files("facemllm") / "assets" / "facemllm-tiny" / "config.json").is_file(),
    reason="the built-in model facemllm-tiny is not in this checkout",
)
pytestmark = needs_examples


def run(*command: str, cwd: Path, path: tuple[Path, ...] = ()) -> str:
    """Run Python in another folder and return what it printed."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@needs_built_in
def test_quickstart_answers_all_it_asks(tmp_path):
    lines = run(str(EXAMPLES / "quickstart.py"), cwd=tmp_path).splitlines()
    said = dict(line.split(": ", 1) for line in lines)
    assert re.fullmatch(r"[a-z]+ \(confidence [01]\.\d\d\)", said["expression"])
    assert 18 <= int(said["age"]) <= 70
    assert "pan" in said["head pose"] or "straight" in said["head pose"] or "degrees" in said["head pose"]
    assert said["phone number"] == "I don't know."
    assert len(said["description"].split()) > 3


def test_compose_joins_every_encoder_with_every_connector(tmp_path):
    lines = run(str(EXAMPLES / "compose.py"), cwd=tmp_path).splitlines()
    assert len(lines) == 9
    assert all(line.endswith("loaded again: equal") for line in lines)


def downstream(tmp_path: Path, *arguments: str) -> str:
    """Run the downstream project as if it were installed: pip would write these two files."""
    record = tmp_path / "installed" / "spectacles-0.1.0.dist-info"
    record.mkdir(parents=True)
    project = (EXAMPLES / "downstream" / "pyproject.toml").read_text()
    encoder = re.search(
        r'^\[project\.entry-points\."(facemllm\.encoders)"\]\n(\w+) = "([\w.:]+)"', project, re.MULTILINE
    )
    assert encoder is not None
    group, name, target = encoder.groups()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: spectacles\nVersion: 0.1.0\n")
    (record / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    path = (record.parent, EXAMPLES / "downstream")
    return run("-m", "spectacles", *arguments, cwd=tmp_path, path=path)


def right_of(said: str) -> float:
    found = re.search(r"(\d+) of (\d+) right", said)
    assert found is not None, said
    return int(found[1]) / int(found[2])


def test_downstream_project_trains_a_head_on_its_own_encoder(tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra detect")
    said = downstream(tmp_path, "--out", str(tmp_path / "model"))
    assert right_of(said) > 0.6  # chance is a third
    assert '"handmade"' in (tmp_path / "model" / "config.json").read_text()
    for kind in ("none", "dark"):
        assert re.search(rf"portrait with spectacles {kind}: +{kind}", said)


@needs_built_in
def test_downstream_project_hangs_its_head_on_the_built_in_model(tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra detect")
    assert right_of(downstream(tmp_path, "--model", "facemllm-tiny")) > 0.5
