"""Killed at any point, by two processes, by two Ray workers: the report is that of one quiet run."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from facemllm.core.errors import ConfigError
from facemllm.evaluation.spread import Processes, processes

SCRIPT = Path(__file__).with_name("shared_run.py")
FACES = 61

_spec = importlib.util.spec_from_file_location("shared_run", SCRIPT)
_shared = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_shared)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of one process that nothing happened to, and the folder of its pictures."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "faces").mkdir()
    _shared.main(folder / "faces", folder / "out")
    return folder / "faces", folder / "out"


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def torchrun(count: int) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(count),
            "--master_port", str(port())]  # fmt: skip


def accelerate() -> list[str]:
    return [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2",
            "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
            "--main_process_port", str(port())]  # fmt: skip


def answered(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob("predictions*.jsonl"))


def differences(one: Path, other: Path) -> list[str]:
    """Return the files that differ in more than times."""
    names = ["report.md", "report.html", "results.jsonl"]
    found = [name for name in names if (one / name).read_bytes() != (other / name).read_bytes()]
    a, b = (json.loads((folder / "report.json").read_text()) for folder in (one, other))
    assert a.pop("timing")
    assert b.pop("timing")
    return found + ["report.json"] * (a != b)


def launch(launcher: list[str], faces: Path, out: Path, *more: str, seconds: float = 0) -> subprocess.Popen:
    return subprocess.Popen(
        [*launcher, str(SCRIPT), str(faces), str(out), *more],
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0",
             "SECONDS_A_BATCH": str(seconds)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> None:
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text


def kill(process: subprocess.Popen) -> None:
    """Kill a run and all it started, without a chance to tidy up."""
    started = psutil.Process(process.pid).children(recursive=True)
    for one in [process, *started]:
        one.kill()
    process.communicate()
    psutil.wait_procs(started)


def test_killed_two_processes_and_one_again_give_the_same(whole, tmp_path):
    faces, out = whole[0], tmp_path / "out"
    first = launch(torchrun(2), faces, out, seconds=0.2)
    while first.poll() is None and answered(out) < 15:
        time.sleep(0.005)
    kill(first)
    assert 0 < answered(out) < FACES, "killed too early or too late to show anything"
    assert (out / "predictions.1.jsonl").is_file()  # the second process had said something of its own
    with (out / "predictions.1.jsonl").open("a") as file:
        file.write('{"dataset": "made", "id": "59.p')  # a line half written
    known = answered(out)
    finish(launch(torchrun(2), faces, out))
    assert differences(out, whole[1]) == []
    assert [path.name for path in out.glob("predictions*")] == ["predictions.jsonl"]
    assert answered(out) == FACES, f"some of the {known} pictures that were known were asked again"


def test_accelerate_gives_the_same(whole, tmp_path):
    process = launch(accelerate(), whole[0], tmp_path / "out")
    finish(process)
    assert differences(tmp_path / "out", whole[1]) == []


def test_what_two_processes_left_one_takes_up(whole, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    lines = (whole[1] / "predictions.jsonl").read_text().splitlines(keepends=True)
    (out / "predictions.jsonl").write_text("".join(lines[:20:2]))
    (out / "predictions.1.jsonl").write_text("".join(lines[1:20:2]))
    _shared.main(whole[0], out)
    assert differences(out, whole[1]) == []
    assert answered(out) == FACES


def test_a_different_report_is_noticed(whole, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for path in whole[1].iterdir():
        if path.is_file():
            (out / path.name).write_bytes(path.read_bytes())
    assert differences(out, whole[1]) == []
    report = json.loads((out / "report.json").read_text())
    report["tasks"]["age"]["mae"] += 0.00001
    (out / "report.json").write_text(json.dumps(report))
    (out / "report.md").write_text("other")
    assert differences(out, whole[1]) == ["report.md", "report.json"]


def test_without_a_launcher_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert processes() == Processes(0, 1)
    assert Processes().gather("a") == ["a"]
    every = [item for rank in range(3) for item in Processes(rank, 3).own(range(10))]
    assert sorted(every) == list(range(10))


# --- Ray


@pytest.mark.slow
def test_ray_gives_the_same_though_a_worker_is_killed(whole, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed (extra scale)")
    out = tmp_path / "out"
    process = launch([sys.executable], whole[0], out, "ray", seconds=0.1)
    killed = None
    while process.poll() is None and killed is None:
        if answered(out) >= 4:
            workers = [
                child for child in psutil.Process(process.pid).children(recursive=True)
                if "_Worker" in " ".join(child.cmdline())
            ]  # fmt: skip
            assert workers, "no worker is at work"
            killed = workers[0]
            killed.kill()
        time.sleep(0.005)
    finish(process)
    assert killed
    assert differences(out, whole[1]) == []


def test_a_cluster_that_is_not_there_is_an_error(whole, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed (extra scale)")
    with pytest.raises(ConfigError, match="cannot join a Ray cluster"):
        _shared.main(whole[0], tmp_path / "out", ray="127.0.0.1:1")
