"""Annotation while the server fails and the process is killed: nothing lost, nothing twice, all counted."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("openai", reason="needs facemllm[annotate]")
pytest.importorskip("onnxruntime", reason="needs facemllm[detect]")

# The whole form: FACEMLLM_FAULTS=full pytest tests/annotation/test_faults.py
FULL = os.environ.get("FACEMLLM_FAULTS") == "full"
IMAGES, KILLS = (2000, 5) if FULL else (150, 2)
CONCURRENCY = 12


def command(photos: Path, out: Path, url: str) -> list[str]:
    return [
        sys.executable, "-m", "facemllm.cli.main", "annotate", "--images", str(photos), "--endpoint", url,
        "--model", "m", "--out", str(out), "--concurrency", str(CONCURRENCY), "--timeout", "1.0",
        "--shard-size", str(IMAGES // 10), "--price-in", "1.0", "--price-out", "2.0", "--json",
        "--terms", "a test",
    ]  # fmt: skip


def run_and_kill(arguments: list[str], server, after: int) -> bool:
    """Run the command until the server has received so many more requests, then kill it with signal 9."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    begun = server.get("stats")["received"]
    while process.poll() is None:
        if server.get("stats")["received"] >= begun + after:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.005)
    assert process.returncode == 0, process.stderr.read()
    return False


@pytest.mark.slow
def test_each_image_ends_once_and_the_ledger_agrees_with_the_server(photos, serve, tmp_path, capsys):
    folder, expected = photos(IMAGES)
    server, out = serve("--share", "0.3", "--delay", "0.02"), tmp_path / "out"
    arguments = command(folder, out, server.url)
    killed = [run_and_kill(arguments, server, IMAGES // (KILLS + 2)) for _ in range(KILLS)]
    assert all(killed), "each kill came while the run was at work"
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    summary, counted = json.loads(done.stdout), server.get("stats")

    # Each picture has one end, and those that could not be annotated have the right reason.
    records, rejects = ends(out)
    seen = Counter(end["id"] for end in (*records, *rejects))
    assert set(seen) == set(expected)
    assert max(seen.values()) == 1
    for reject in rejects:
        assert reject["reason"] == expected[reject["id"]] or (
            expected[reject["id"]] == "" and reject["reason"] in BY_SERVER
        ), reject
    assert {record["id"] for record in records} <= {name for name, reason in expected.items() if not reason}
    assert len(records) > 0.85 * len([reason for reason in expected.values() if not reason])
    for fault in ("429", "429 retry-after", "500", "hang", "cut body", "cut json", "wrong schema", "refusal",
                  "wrong language"):  # fmt: skip
        assert counted["faults"].get(fault, 0) > 0, f"the server never made the fault {fault!r}"

    # The ledger's totals are the server's own.
    assert (summary["records"], summary["images"]) == (len(records), IMAGES)
    requests = summary["requests"]
    with sqlite3.connect(out / "ledger.sqlite") as ledger:
        distinct = ledger.execute("SELECT COUNT(*) FROM requests").fetchone()[0]
    assert distinct == counted["distinct"]
    assert requests["answered"]["answer"] == counted["charged"]
    assert summary["tokens"] == {"in": counted["tokens_in"], "out": counted["tokens_out"]}
    cost = (counted["tokens_in"] * 1.0 + counted["tokens_out"] * 2.0) / 1e6
    assert summary["cost_usd"] == pytest.approx(cost, abs=1e-6)
    # A request is written down before it leaves, so a kill in between leaves one too many, never one too few.
    assert 0 <= requests["sent"] - counted["received"] <= KILLS * CONCURRENCY
    # And so is what the single ends say, also of those that were begun by one run and ended by another.
    told = [record["provenance"] for record in records] + rejects
    assert sum(end["tokens_in"] for end in told) == counted["tokens_in"]
    assert sum(end["cost_usd"] or 0 for end in told) == pytest.approx(cost, abs=1e-6)
    with capsys.disabled():
        sys.stdout.write(f"\n{len(records)} records, {len(rejects)} rejects, {requests}, server: {counted}\n")


BY_SERVER = {"refused", "cut", "wrong_schema", "wrong_language", "endpoint_failed"}


def ends(out: Path) -> tuple[list[dict], list[dict]]:
    found = [
        [json.loads(line) for shard in sorted(out.glob(f"{kind}s-*.jsonl")) for line in shard.open()]
        for kind in ("record", "reject")
    ]
    return found[0], found[1]
