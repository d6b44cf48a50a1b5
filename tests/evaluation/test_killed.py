"""A run that is killed, without a chance to tidy up, and goes on gives the report of a run that was not."""

import importlib.util
import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from facemllm.evaluation import evaluate

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
_oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_oracle)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks processes")


class Slow(_oracle.Oracle):
    def ask(self, image, questions):
        time.sleep(0.03)
        return super().ask(image, questions)


def _spoil(sample, question, text):
    return "I can't tell." if int(sample.id.split(".")[0]) % 7 == 0 else text


def _run(samples, out):
    model = Slow(samples, _spoil)
    evaluate(model, samples, batch_size=2, output_dir=out, progress=False).save(out, plots=False)


def test_killed_at_any_point_the_report_is_the_same(tmp_path):
    labels = [{"expression": ["happy", "sad", "angry"][i % 3]} for i in range(60)]
    samples = _oracle.make_samples(tmp_path, labels)
    _run(samples, tmp_path / "whole")
    fork, sizes = multiprocessing.get_context("fork"), []
    answers = tmp_path / "killed" / "predictions.jsonl"
    for target in (1, 9, 14, 27, 38):
        child = fork.Process(target=_run, args=(samples, tmp_path / "killed"))
        child.start()
        while child.is_alive() and (not answers.exists() or answers.read_bytes().count(b"\n") < target):
            time.sleep(0.002)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        sizes.append(answers.read_bytes().count(b"\n"))
    assert 0 < sizes[-1] < 60, "killed too early or too late to show anything"
    assert sizes == sorted(sizes)  # nothing that was answered is lost
    _run(samples, tmp_path / "killed")
    for name in ("report.md", "report.html", "results.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    whole, killed = (json.loads((tmp_path / n / "report.json").read_text()) for n in ("whole", "killed"))
    assert whole.pop("timing") != {}
    killed.pop("timing")
    assert killed == whole
