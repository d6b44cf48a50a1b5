"""Checkpoints: whole or not there, whatever happens while they are written or lie on disk."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from facemllm.core.errors import CheckpointError
from facemllm.training import checkpoints as module
from facemllm.training import files
from facemllm.training.checkpoints import Checkpoints
from facemllm.training.state import flatten, random_state, set_random_state, unflatten


def content(value):
    return {"model": {"w": torch.full((3, 2), float(value))}, "optimizer": {"state": {0: {"step": value}}}}


def value_of(store):
    found = store.load()
    assert found is not None
    value = int(found.tensors["model"]["w"][0, 0])
    assert found.tensors["optimizer"] == {"state": {0: {"step": value}}}
    assert found.step == value
    assert found.extra == {"note": value}
    return value


def save(store, value, **options):
    store.save(value, content(value), {"note": value}, **options)


def save_all(store, values):
    for value in values:
        save(store, value)


def raised_by(work):
    try:
        work()
    except CheckpointError as error:
        return str(error)
    return None


class Killed(BaseException):
    """The end of a process: nothing of it runs afterwards."""


def interrupt(monkeypatch, at, error):
    """Raise ``error`` instead of the n-th operation on files; return the count of operations so far."""
    import safetensors.torch

    count = [0]

    def counted(real):
        def wrapped(*args, **options):
            count[0] += 1
            if count[0] == at or (count[0] > at and isinstance(error, Killed)):
                raise error
            return real(*args, **options)

        return wrapped

    monkeypatch.setattr(files.os, "fsync", counted(os.fsync))
    monkeypatch.setattr(files.os, "replace", counted(os.replace))
    monkeypatch.setattr(Path, "mkdir", counted(Path.mkdir))
    monkeypatch.setattr(Path, "rename", counted(Path.rename))
    monkeypatch.setattr(Path, "open", counted(Path.open))
    monkeypatch.setattr(module.shutil, "rmtree", counted(shutil.rmtree))
    monkeypatch.setattr(safetensors.torch, "save_file", counted(safetensors.torch.save_file))
    return count


def test_killed_at_every_operation_of_a_save_the_old_or_the_new_one_is_there(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        count = interrupt(patched, 10_000, Killed())
        store = Checkpoints(tmp_path / "counted")
        save_all(store, (1, 2, 3))
        operations = count[0]
    assert operations > 30
    for at in range(1, operations + 1):
        store = Checkpoints(tmp_path / f"{at}")
        with monkeypatch.context() as patched:
            interrupt(patched, at, Killed())
            with pytest.raises(Killed):
                save_all(store, (1, 2, 3))
        last = value_of(store) if store.load() is not None else 0
        save_all(store, range(last + 1, 5))  # and it goes on from there
        assert value_of(store) == 4
        assert sorted(path.name for path in store.folder.iterdir()) == ["step-000003", "step-000004"]


def test_a_full_disk_at_any_operation_is_told_and_leaves_the_earlier_ones(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        store = Checkpoints(tmp_path / "counted")
        save_all(store, (1, 2))
        count = interrupt(patched, 10_000, OSError())
        save(store, 3)
    errors = 0
    for at in range(1, count[0] + 1):
        store = Checkpoints(tmp_path / f"{at}")
        save_all(store, (1, 2))
        with monkeypatch.context() as patched:
            interrupt(patched, at, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            told = raised_by(lambda store=store: save(store, 3))
        if told is None:  # it was only about tidying up
            assert value_of(store) == 3
        else:
            assert "cannot write a checkpoint" in told
            assert "No space left on device" in told
            errors += 1
        assert value_of(store) in (2, 3)
        save(store, 4)
        assert value_of(store) == 4
    assert errors > 10


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("how", ["bit", "cut", "gone", "empty"])
def test_a_damaged_newest_one_is_noticed_and_the_one_before_is_used(tmp_path, name, how, caplog):
    store = Checkpoints(tmp_path)
    for value in (1, 2):
        save(store, value)
    path = tmp_path / "step-000002" / name
    data = bytearray(path.read_bytes())
    if how == "bit":
        data[-1 if name == "optimizer.safetensors" else len(data) // 2] ^= 4
    elif how == "cut":
        data = data[:-1]
    path.write_bytes(b"" if how == "empty" else data)
    if how == "gone":
        path.unlink()
    assert value_of(store) == 1
    assert "a checkpoint is damaged" in caplog.text


def test_all_damaged_is_an_error_and_none_at_all_is_a_beginning(tmp_path):
    store = Checkpoints(tmp_path)
    assert store.load() is None
    save(store, 1)
    (tmp_path / "step-000001" / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no checkpoint is whole"):
        store.load()


def test_the_last_and_the_best_are_kept(tmp_path):
    store = Checkpoints(tmp_path, last=2, best=1)
    for value, score in ((1, 3.0), (2, 1.0), (3, 2.0), (4, None), (5, 5.0)):
        save(store, value, score=score)
    assert store.steps() == [2, 4, 5]
    assert store.best().step == 2
    assert store.peek() == {"note": 5}


def test_what_is_written_is_data(tmp_path):
    save(Checkpoints(tmp_path), 1)
    assert {path.suffix for path in (tmp_path / "step-000001").iterdir()} == {".safetensors", ".json"}
    json.loads((tmp_path / "step-000001" / "state.json").read_text())
    with pytest.raises(CheckpointError, match="cannot keep this state"):
        Checkpoints(tmp_path).save(2, {"model": {"hook": print}})
    assert Checkpoints(tmp_path).load().step == 1


def test_adam_and_tied_weights_and_memory_formats_come_back_as_they_were(tmp_path):
    layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    layer(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    tied = torch.randn(4, 4)
    state = {"a": tied, "b": tied, "bf16": tied.bfloat16(), "empty": torch.zeros(0), "list": [(1, None)]}
    store = Checkpoints(tmp_path)
    store.save(1, {"optimizer": optimizer.state_dict(), "other": state})
    back = store.load().tensors
    old = optimizer.state_dict()
    assert back["optimizer"]["param_groups"] == old["param_groups"]
    average = back["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(average, old["state"][0]["exp_avg"])
    assert average.stride() == old["state"][0]["exp_avg"].stride()
    assert all(torch.equal(back["other"][key], state[key]) for key in ("a", "b", "bf16", "empty"))
    assert back["other"]["list"] == [(1, None)]
    assert len(flatten(state)[1]) == 3  # the tied ones once


def test_every_generator_goes_on_where_it_stood():
    import random

    import numpy as np

    def drawn():
        return random.random(), random.gauss(0, 1), np.random.normal(), torch.randn(2).tolist()  # noqa: NPY002

    drawn()
    described, tensors = flatten(random_state())
    first = drawn()
    assert drawn() != first
    set_random_state(unflatten(json.loads(json.dumps(described)), tensors))
    assert drawn() == first
