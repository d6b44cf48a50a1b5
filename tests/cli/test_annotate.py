"""The command ``facemllm annotate`` as a person runs it."""

import json
import sys

import pytest
from PIL import Image

from facemllm.cli import main as cli


@pytest.fixture
def annotate(capsys, monkeypatch):
    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["facemllm", "annotate", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def crops(tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    for index in range(4):
        Image.new("RGB", (96, 96), (index * 60, 90, 40)).save(folder / f"{index}.png")
    Image.new("RGB", (20, 20)).save(folder / "tiny.png")
    return folder


@pytest.fixture
def recorded(tmp_path):
    from facemllm.annotation import load_prompt

    said = {
        "caption": "The person looks at the camera.",
        "attributes": dict.fromkeys(load_prompt("face").attributes, "no"),
    }
    path = tmp_path / "recorded.jsonl"
    path.write_text(
        "".join(json.dumps({"id": f"{i}.png", "text": json.dumps(said)}) + "\n" for i in range(4))
    )
    return path


def test_replay_writes_records_rejects_and_a_summary(annotate, crops, recorded, tmp_path):
    arguments = ("--images", crops, "--out", tmp_path / "out", "--annotator", "replay", "--replay", recorded,
                 "--crop", "none")  # fmt: skip
    status, out, _ = annotate(*arguments, "--json")
    summary = json.loads(out)
    assert status == 0
    assert (summary["records"], summary["rejects"], summary["stopped"]) == (4, {"too_small": 1}, None)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    kept = json.loads((tmp_path / "out" / "config.json").read_text())
    assert kept["annotate"]["annotator"]["name"] == "replay"
    status, out, _ = annotate(*arguments)
    assert status == 0
    assert "4 records, 1 rejects" in out
    assert "cost unknown" in out
    assert summary["cost_usd"] is None
    assert "too_small" in out


def test_a_run_that_its_limit_ended_says_so(annotate, crops, recorded, tmp_path):
    arguments = ("--images", crops, "--out", tmp_path / "out", "--annotator", "replay", "--replay", recorded,
                 "--crop", "none")  # fmt: skip
    _, out, _ = annotate(*arguments, "--limit", "2")
    assert "2 records" in out
    assert "--limit" in out
    assert "budget" not in out
    _, out, _ = annotate(*arguments)
    assert "4 records" in out
    assert "--limit" not in out


def test_a_dry_run_needs_no_server_and_makes_no_folder(annotate, crops, tmp_path):
    pytest.importorskip("openai", reason="needs facemllm[annotate]")
    common = ("--images", crops, "--out", tmp_path / "out", "--endpoint", "http://localhost:1/v1",
    "--model", "m",
              "--crop", "none", "--dry-run")  # fmt: skip
    status, out, _ = annotate(*common, "--json", "--price-in", "1", "--price-out", "2")
    report = json.loads(out)
    assert status == 0
    assert (report["images"], report["estimate"]["asked"]) == (5, 4)
    assert report["estimate"]["usd"] > 0
    assert not (tmp_path / "out").exists()
    status, out, _ = annotate(*common)
    assert status == 0
    assert "cost unknown" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "needs --endpoint and --model"),
        (("--endpoint", "localhost:8000", "--model", "m"), "an endpoint is not an address"),
        (("--endpoint", "http://localhost:1/v1", "--model", "m", "--budget-usd", "5"), "budget of money"),
        (("--endpoint", "http://localhost:1/v1", "--model", "m", "--structured", "xml"), "structured output"),
        (("--endpoint", "http://localhost:1/v1", "--model", "m", "--parameter", "top_p"), "read a parameter"),
        (("--endpoint", "http://localhost:1/v1", "--model", "m", "--include", "beauty"), "unknown label"),
        (("--endpoint", "http://localhost:1/v1", "--model", "m", "--deny-list", "none.txt"), "deny-list"),
        (("--endpoint", "http://localhost:1/v1", "--model", "m", "--format", "csv"), "line has 1 error"),
        (("--endpoint", "http://localhost:1/v1", "--model", "m", "--concurrency", "0"), "line has 1 error"),
        (("--annotator", "opnai"), "did you mean openai"),
        (("--annotator", "replay"), "needs --replay"),
        (("--annotator", "replay", "--replay", "none.jsonl"), "no recorded answers"),
        (("--images", "none/*.jpg", "--annotator", "replay", "--replay", "none.jsonl"), "no pictures"),
    ],
)  # fmt: skip
def test_a_mistake_ends_with_four_parts_and_status_2(annotate, crops, tmp_path, arguments, said):
    pytest.importorskip("openai", reason="needs facemllm[annotate]")
    images = () if "--images" in arguments else ("--images", crops)
    status, out, err = annotate(*images, "--out", tmp_path / "out", "--crop", "none", *arguments)
    assert status == 2
    assert out == ""
    assert said in err
    for part in ("error:", "given:", "expected:", "do:"):
        assert part in err
    assert "Traceback" not in err


LOCAL = ("--endpoint", "http://localhost:1/v1", "--model", "m")


@pytest.mark.parametrize("dry", [("--dry-run",), ()], ids=["dry", "real"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--endpoint", "localhost:8000", "--model", "m"), "an endpoint is not an address"),
        ((*LOCAL, "--second", "n", "--second-endpoint", "ftp://x"), "an endpoint is not an address"),
        ((*LOCAL, "--structured", "xml"), "structured output"),
        (("--annotator", "opnai"), "did you mean openai"),
        (("--annotator", "local", "--model", "nosuch"), "neither built in nor a folder"),
        (("--annotator", "replay", "--replay", "none.jsonl"), "no recorded answers"),
        ((*LOCAL, "--limit", "-3"), "budget.images"),
        ((*LOCAL, "--limit", "0"), "budget.images"),
        ((*LOCAL, "--budget-tokens", "-1"), "budget.tokens"),
        ((*LOCAL, "--budget-usd", "nan", "--price-in", "1"), "budget.usd"),
        ((*LOCAL, "--price-in", "inf"), "price_in"),
        ((*LOCAL, "--retries", "-1"), "patience.retries"),
        ((*LOCAL, "--timeout", "0"), "patience.timeout"),
        ((*LOCAL, "--nsfw-max", "nan"), "nsfw_max"),
        ((*LOCAL, "--parameter", "stop=["), "read a parameter"),
        ((*LOCAL, "--prompt", "none.yaml"), "cannot read configuration"),
        ((*LOCAL, "--detector", "centreface", "--crop", "face"), "unknown detector"),
        ((*LOCAL, "--out", "taken"), "cannot write to the output folder"),
        ((*LOCAL, "--out", "taken/below"), "cannot write to the output folder"),
    ],
)
def test_a_dry_run_refuses_what_a_run_refuses(annotate, crops, tmp_path, monkeypatch, arguments, said, dry):
    pytest.importorskip("openai", reason="needs facemllm[annotate]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "taken").write_text("a file")
    given = ["--images", crops, "--out", "out", "--crop", "none", *arguments]
    status, out, err = annotate(*given, *dry)
    assert (status, out) == (2, "")
    assert said in err
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_dry_run_tells_that_a_folder_holds_another_run(annotate, crops, recorded, tmp_path):
    out = tmp_path / "out"
    common = ("--images", crops, "--out", out, "--annotator", "replay", "--replay", recorded, "--crop",
              "none")  # fmt: skip
    assert annotate(*common)[0] == 0
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert annotate(*common, "--dry-run")[0] == 0
    status, _, err = annotate(*common, "--dry-run", "--min-size", "70")
    assert status == 2
    assert "begun with another configuration" in err
    assert "min_size: 70" in err
    assert "min_size: 64" in err
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in out.iterdir()}.items()
    (out / "ledger.sqlite").write_bytes(b"something else, which is no ledger" * 99)
    status, _, err = annotate(*common, "--dry-run")
    assert status == 2
    assert "cannot use the ledger" in err


def test_a_server_that_is_not_there_ends_with_status_2(annotate, crops, tmp_path):
    pytest.importorskip("openai", reason="needs facemllm[annotate]")
    status, _, err = annotate(
        "--images", crops, "--out", tmp_path / "out", "--crop", "none", "--model", "m", "--retries", "0",
        "--endpoint", "http://127.0.0.1:9/v1",
    )  # fmt: skip
    assert status == 2
    assert "gives no usable replies" in err
