import importlib.util
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facemllm.cli.main import app
from facemllm.core.errors import ConfigError, DatasetError
from facemllm.evaluation import compare, evaluate

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
_oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_oracle)


def _every(count, wrong):
    """Return a spoiler that is wrong on every so-manieth picture."""

    def spoil(sample, question, text):
        if int(sample.id.split(".")[0]) % count:
            return text
        return wrong if not text.isdigit() else str(int(text) + 10)

    return spoil


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    labels = [{"gender": "female" if i % 2 else "male", "age": 20 + i % 40} for i in range(120)]
    samples = _oracle.make_samples(folder, labels)
    for name, spoil in {
        "good": _every(20, "I can't tell."), "bad": _every(3, "a cat"), "alike": _every(19, "I can't tell."),
    }.items():  # fmt: skip
        model = _oracle.Oracle(samples, spoil, name)
        evaluate(model, samples, progress=False, model_name=name).save(folder / name, plots=False)
    return folder


def test_a_difference_is_shown_and_no_difference_is_not(runs):
    found = compare([runs / "good", runs / "bad", runs / "alike"]).result
    pairs = {(p["first"], p["second"]): p for p in found["tasks"]["gender"]["differences"]}
    better = pairs["good", "bad"]
    assert better["verdict"] == "good is better"
    # 6 of 120 wrong against 40 of 120
    assert better["difference"] == pytest.approx((114 - 80) / 120, abs=1e-5)
    low, high = better["interval"]
    assert 0 < low < better["difference"] < high
    assert pairs["good", "alike"]["verdict"] == "no difference shown"
    ages = {(p["first"], p["second"]): p for p in found["tasks"]["age"]["differences"]}
    assert ages["good", "bad"]["verdict"] == "good is better"  # of errors, less is better
    assert ages["good", "bad"]["difference"] < 0


def test_pairing_narrows_the_interval(runs):
    """Against itself a model has no difference at all, though each value has an interval of its own."""
    [pair] = compare([runs / "bad", runs / "bad"]).result["tasks"]["gender"]["differences"]
    assert pair["first"] == "bad"
    assert pair["second"] == "bad (2)"
    assert pair["difference"] == 0
    assert pair["interval"] == [0, 0]


def test_only_the_same_faces_are_compared(runs, tmp_path):
    summary = json.loads((runs / "bad" / "report.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    (other / "report.json").write_text(json.dumps(summary | {"dataset": "another"}))
    (other / "results.jsonl").write_text((runs / "bad" / "results.jsonl").read_text())
    with pytest.raises(ConfigError, match="cannot compare"):
        compare([runs / "good", other])
    with pytest.raises(ConfigError, match="cannot compare"):
        compare([runs / "good"])
    with pytest.raises(DatasetError, match="not a saved evaluation"):
        compare([runs / "good", tmp_path])


def test_command_prints_and_writes(runs, tmp_path):
    out = tmp_path / "out"
    args = ["compare", str(runs / "good"), str(runs / "bad"), "--out", str(out)]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    assert "good is better" in result.stdout
    saved = json.loads((out / "compare.json").read_text())
    assert saved == json.loads(CliRunner().invoke(app, [*args, "--json"]).stdout)
    assert "good is better" in (out / "compare.html").read_text()
    assert "| good - bad |" in (out / "compare.md").read_text()
    shown = (out / "compare.html").read_text()
    assert "years off, on average" in shown
    assert re.search(r"better than bad by [\d.]+ years\.", shown)
    assert re.search(r"better than bad by [\d.]+ points\.", shown)
