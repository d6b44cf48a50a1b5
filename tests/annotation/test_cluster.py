"""Two Ray workers do what one process does, also when one of them is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs facemllm[scale]")
pytest.importorskip("openai", reason="needs facemllm[annotate]")
pytest.importorskip("onnxruntime", reason="needs facemllm[detect]")

IMAGES = 60


def command(photos: Path, out: Path, url: str, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "facemllm.cli.main", "annotate", "--images", str(photos), "--endpoint", url,
        "--model", "m", "--out", str(out), "--json", *more,
    ]  # fmt: skip


def said(out: Path) -> dict[str, tuple]:
    """What was said of each picture, without what differs from run to run; none may stand there twice."""
    found = {}
    for kind in ("records", "rejects"):
        for shard in out.glob(f"{kind}-*.jsonl"):
            for line in shard.read_text().splitlines():
                end = json.loads(line)
                assert end["id"] not in found
                found[end["id"]] = (
                    end.get("caption"),
                    end.get("attributes"),
                    end.get("reason"),
                    end["picture"],
                )
    return found


def workers_of(ancestor: int) -> list[int]:
    """Ids of the processes below one of ours that are Ray workers with our code."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes().split(b"\0")[0]
            parents, process = [], int(folder.name)
            while process > 1:
                process = int(
                    (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[1]
                )
                parents.append(process)
        except (OSError, ValueError):
            continue
        if name.startswith(b"ray::") and b"Worker" in name and ancestor in parents:
            found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the worker to kill in /proc")
def test_two_ray_workers_give_the_same_records_and_a_killed_one_loses_nothing(photos, serve, tmp_path):
    folder, expected = photos(IMAGES)
    server = serve("--share", "0", "--delay", "0.1")
    alone = subprocess.run(
        command(folder, tmp_path / "alone", server.url), capture_output=True, text=True, check=True
    )
    counted = server.get("stats")
    process = subprocess.Popen(
        command(folder, tmp_path / "two", server.url, "--ray", "local", "--concurrency", "2"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "RAY_worker_niceness": "0"},  # by default Ray lets everything else go first
    )  # fmt: skip
    killed = []
    while process.poll() is None and not killed:
        if server.get("stats")["received"] > counted["received"] + 5:
            killed = workers_of(process.pid)[:1]
            assert killed, "a worker is at work"
            os.kill(killed[0], signal.SIGKILL)
        time.sleep(0.05)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert killed
    assert said(tmp_path / "two") == said(tmp_path / "alone")
    assert set(said(tmp_path / "two")) == set(expected)
    one, two = json.loads(alone.stdout), json.loads(out)
    for key in ("images", "records", "rejects", "tokens"):
        assert one[key] == two[key], key
    # What the server charged for both runs is what both ledgers say.
    total = server.get("stats")
    assert one["tokens"]["in"] + two["tokens"]["in"] == total["tokens_in"]
    assert one["requests"]["answered"]["answer"] + two["requests"]["answered"]["answer"] == total["charged"]
