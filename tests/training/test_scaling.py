"""Two processes, or a step in parts, do what one process does in one piece."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from facemllm.core.errors import ConfigError, TrainingError
from facemllm.processing.template import IGNORE, Encoded
from facemllm.training.batches import Pairs
from facemllm.training.parallel import Processes
from facemllm.training.sharing import shares, without_channels


@pytest.fixture(scope="module")
def report(made_faces):
    if not sys.platform.startswith("linux"):
        pytest.skip("forks, and reads /proc")
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    command = [sys.executable, str(Path(__file__).parent / "scaling.py"), str(folder), str(made_faces)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def furthest(report, name, than="one"):
    one = {(phase, step): loss for phase, step, loss in report[than]["losses"]}
    other = {(phase, step): loss for phase, step, loss in report[name]["losses"]}
    assert one.keys() == other.keys()
    return max(abs(one[key] - other[key]) for key in one)


@pytest.mark.parametrize("name", ["parts", "two", "sharded"])
def test_the_loss_curve_is_that_of_one_process(report, name):
    assert len(report["one"]["losses"]) >= 10
    assert sum(phase == "language" for phase, _, _ in report["one"]["losses"]) == 3  # it is divided, too
    assert furthest(report, name) <= 1e-5


def test_processes_that_do_not_share_gradients_would_be_seen(report):
    assert furthest(report, "apart") > 1e-4


@pytest.mark.parametrize("name", ["parts", "two", "sharded"])
def test_no_sample_is_seen_twice_or_missed(report, name):
    draws = report[name]["samples"]
    assert [processes[0][1] for processes in draws] == [p[0][1] for p in report["one"]["samples"]]
    uneven = 0
    for processes in draws:
        computed = Counter(sample for own, _ in processes for sample in own)
        assert computed == Counter(processes[0][1])
        uneven += len({len(own) for own, _ in processes}) > 1
    assert uneven or name == "parts"  # the pictures do not divide evenly


def test_sharded_weights_are_handed_over_to_a_single_process(report):
    assert "DTensor" in report["sharded"]["kinds"]
    assert report["one"]["kinds"] == ""
    assert furthest(report, "handed over") <= 1e-5


# --- the encoder phase


@pytest.mark.parametrize("kind", ["plain", "normed"])
def test_the_encoder_phase_is_divided(report, kind):
    assert len(report[f"{kind} one"]["losses"]) == 4
    assert furthest(report, f"{kind} two", than=f"{kind} one") <= 1e-5


def test_batch_norm_by_the_statistics_of_a_part_would_be_seen(report):
    assert furthest(report, "normed apart", than="normed one") > 1e-4


# --- precision by part


def test_parts_that_are_held_in_bfloat16_are_sharded_too(report):
    assert "DTensor bfloat16" in report["halves sharded"]["kinds"]
    assert "DTensor float32" in report["halves sharded"]["kinds"]
    assert furthest(report, "halves sharded", than="halves") < 0.02  # sums in another order, in bfloat16
    assert 1e-5 < furthest(report, "halves", than="one") < 0.2


# --- records in shards


def test_shards_are_drawn_in_passes_without_a_repeat_over_processes(report):
    """Six steps of three pictures in each of two stages: two whole passes over eight faces, and a part."""
    one, two = report["shards"], report["shards of two"]
    assert [draw[0][1] for draw in two["samples"]] == [draw[0][1] for draw in one["samples"]]
    for stage in (two["samples"][:6], two["samples"][6:]):
        for processes in stage:
            assert len({len(own) for own, _ in processes}) == 2  # three pictures over two processes
        seen = [Counter(name for own, _ in processes for name in own) for processes in stage]
        drawn = [name for processes in stage for name in processes[0][1]]
        assert [sorted(counter.elements()) for counter in seen] == [sorted(p[0][1]) for p in stage]
        assert len(set(drawn)) == 8
        assert len(set(drawn[:8])) == len(set(drawn[8:16])) == 8
        assert drawn[:8] != drawn[8:16]


def test_a_run_on_shards_that_was_killed_goes_on_where_it_was(report):
    assert not report["shards of two"]["finished"]  # it was killed
    assert len(report["shards of two"]["samples"]) == 12
    assert furthest(report, "shards of two", than="shards") <= 1e-5


def test_each_shard_is_cropped(report):
    for name in ("shards", "shards of two"):
        assert [found.partition(".tar")[0][-5:] for found in report[name]["cropped"]] == [
            "00000", "00001", "00002",
        ]  # fmt: skip


# --- the division itself


def drawn(*counts):
    """Return pictures with so many answer tokens each."""
    return [
        Pairs(
            f"{index}", torch.randn(4, 6), (Encoded([0] * n, [IGNORE] + [5] * (n - 1), [True] * n),), ("age",)
        )
        for index, n in enumerate(counts)
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("pictures", [1, 2, 3, 7])
def test_shares_are_a_partition_with_weights_that_make_a_mean(count, parts, pictures):
    batch = drawn(*range(2, 2 + pictures))
    tokens = sum(range(1, 1 + pictures))
    divided = [shares(batch, rank=rank, count=count, parts=parts) for rank in range(count)]
    assert len({len(own) for own in divided}) == 1
    computed = [pairs.sample for own in divided for share in own if share.weight for pairs in share.pairs]
    assert sorted(computed) == sorted(pairs.sample for pairs in batch)
    for own in divided:
        assert all(share.pairs and share.weight in (0.0, count / tokens) for share in own)


def test_channels_are_left_out_in_all_tokens_of_a_picture_however_they_are_divided():
    batch = [Pairs(f"{i}", torch.rand(5, 64) + 1, (), ()) for i in range(40)]
    dropped = without_channels(batch, 0.25, seed=3)
    features = torch.stack([pairs.picture for pairs in batch])
    masked = torch.stack([pairs.picture for pairs in dropped])
    zero = (masked == 0).all(1)  # [P, D]
    assert 0.15 < zero.float().mean() < 0.35
    kept = ~zero[:, None].expand_as(features)
    assert torch.allclose(masked[kept], features[kept] / 0.75)
    assert torch.equal(without_channels(batch, 0.25, seed=3)[7].picture, dropped[7].picture)
    assert without_channels(batch, 0.0, seed=3)[0] is batch[0]


# --- launchers


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "not built in"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "FSDP version 1"),
    ],
)
def test_what_is_not_supported_is_refused(monkeypatch, variables, message):
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError, match=message):
        Processes()


def test_an_error_of_another_process_is_told(monkeypatch):
    processes = Processes()
    told = ("cannot write a checkpoint", "disk", "room", "make room")
    monkeypatch.setattr(Processes, "gather", lambda self, value: [value, told])
    with pytest.raises(TrainingError, match=r"cannot write a checkpoint \(process 1\)"):
        processes.agree(lambda: None)
