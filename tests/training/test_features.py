"""Features of a frozen encoder: computed once, whatever happens in between, and never those of another."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from facemllm.data import FaceSample
from facemllm.training.crops import MARGIN, CropSet
from facemllm.training.features import encode_views

SIZE, COUNT = 8, 70
LOOK: dict[str, Any] = {"views": 2, "size": SIZE, "mean": (0.5,) * 3, "std": (0.5,) * 3, "batch_size": 2}


class Counting(nn.Module):
    """An encoder that counts its batches, and stops at one of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Conv2d(3, 4, 4, 4)
        self.spec, self.batches, self.stop = {"name": "counting"}, 0, 10**9

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if pixels.shape[0] > 1:  # one is the look at its shape
            self.batches += 1
            if self.batches > self.stop:
                raise KeyboardInterrupt
        return self.inner(pixels).flatten(2).transpose(1, 2)


@pytest.fixture
def crops():
    side = SIZE + 2 * MARGIN
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, side, side, 3), dtype=np.uint8)
    samples = tuple(
        FaceSample(id=str(i), image=f"{i}.jpg", labels={}, dataset="x", licence="x") for i in range(COUNT)
    )
    return CropSet("x", samples, pixels)


def encode(encoder, crops, cache, **changes):
    return encode_views(encoder, crops, cache=cache, progress=False, **{**LOOK, **changes})


def same(a, b):
    return torch.equal(a.features, b.features) and torch.equal(a.mirrored, b.mirrored)


def test_they_are_computed_once(crops, tmp_path):
    encoder = Counting()
    first = encode(encoder, crops, tmp_path)
    assert encoder.batches == COUNT // LOOK["batch_size"]
    second = encode(encoder, crops, tmp_path)
    assert encoder.batches == COUNT // LOOK["batch_size"]
    assert same(first, second)
    assert first.features.abs().sum(dtype=torch.float32) > 0


@pytest.mark.parametrize("stop", [0, 1, 20, 34])
def test_a_run_that_was_stopped_goes_on_and_gives_the_same(crops, tmp_path, stop):
    whole = encode(Counting(), crops, tmp_path / "whole")
    encoder = Counting()
    encoder.stop = stop
    with pytest.raises(KeyboardInterrupt):
        encode(encoder, crops, tmp_path / "cut")
    (folder,) = (path for path in (tmp_path / "cut").iterdir() if path.is_dir())
    features = np.lib.format.open_memmap(folder / "features.npy", mode="r+")
    noted = json.loads((folder / "done.json").read_text())["crops"] if stop > 16 else 0
    features[noted:] = 7  # half written: only what is noted counts
    features.flush()
    encoder.batches, encoder.stop = 0, 10**9
    assert same(encode(encoder, crops, tmp_path / "cut"), whole)
    assert encoder.batches == (COUNT - noted) // LOOK["batch_size"]


def test_what_they_depend_on_makes_them_anew(crops, tmp_path):
    encoder = Counting()
    encode(encoder, crops, tmp_path)
    once = encoder.batches
    changed = replace(crops, pixels=np.concatenate([crops.pixels[:-1], 255 - crops.pixels[-1:]]))
    encode(encoder, changed, tmp_path)
    assert encoder.batches == 2 * once
    encode(encoder, crops, tmp_path, mean=(0.4,) * 3)
    assert encoder.batches == 3 * once
    with torch.no_grad():
        encoder.inner.bias[0] += 1e-3
    other = encode(encoder, crops, tmp_path)
    assert encoder.batches == 4 * once
    assert not same(other, encode(Counting(), crops, tmp_path))


@pytest.mark.parametrize("damage", ["short", "gone", "note"])
def test_damaged_files_are_made_again(crops, tmp_path, damage):
    whole = encode(Counting(), crops, tmp_path)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    whole = replace(whole, features=whole.features.clone(), mirrored=whole.mirrored.clone())
    path = folder / "features.npy"
    if damage == "short":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "gone":
        path.unlink()
    else:
        (folder / "done.json").write_text("{")
    encoder = Counting()
    assert same(encode(encoder, crops, tmp_path), whole)
    assert encoder.batches == COUNT // LOOK["batch_size"]


def test_of_several_at_once_one_computes_them(crops, tmp_path):
    encoders, found = [Counting(), Counting(), Counting()], []
    threads = [
        threading.Thread(target=lambda encoder=encoder: found.append(encode(encoder, crops, tmp_path)))
        for encoder in encoders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(encoder.batches for encoder in encoders) == COUNT // LOOK["batch_size"]
    assert same(found[0], found[1])
    assert same(found[1], found[2])
