"""A run that is killed, at any moment, ends with the bits of one that was not."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and reads /proc"),
]

# Another number kills elsewhere.
SEED = int(os.environ.get("FACEMLLM_KILL_SEED", "1"))


@pytest.fixture(scope="module")
def report(made_faces):
    """Runs, kills and resumes of ``killing.py``: some 30 processes that are ended by SIGKILL."""
    memory = Path("/dev/shm")  # where waiting for the disk takes no time
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    command = [sys.executable, str(Path(__file__).parent / "killing.py"), folder, made_faces, str(SEED)]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_killed_at_any_step_or_save_of_any_phase(report):
    one = report["1"]
    assert len(one["died"]) >= 20
    for phase in ("language", "encoder", "alignment", "basic-vqa", "face-tasks"):
        assert any(name.startswith(f"step {phase}") for name in one["died"]), phase
        assert any(phase in name and ".writing-" in name for name in one["died"]), phase
    assert one["stopped"] == one["whole"]


def test_two_processes_of_which_one_is_killed(report):
    two = report["2"]
    assert len(two["died"]) >= 6
    assert any(".writing-" in name for name in two["died"])
    assert two["stopped"] == two["whole"]


def test_a_run_that_loses_something_would_be_seen(report):
    assert report["wrong"] != report["1"]["whole"]


def test_a_damaged_checkpoint_and_a_full_disk_cost_nothing_but_time(report):
    full = report["full"]
    assert "a checkpoint is damaged" in full["error"]
    assert "the one before it is used" in full["error"]
    assert "cannot write a checkpoint" in full["error"]
    assert "File too large" in full["error"]
    assert "the earlier checkpoints are intact" in full["error"]
    assert full["left"] == ["step-000002", "step-000003"]  # and nothing half written
    assert full["weights"] == report["1"]["whole"]
