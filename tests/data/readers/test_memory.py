"""Readers hold no more of a large dataset than of a small one."""

import tracemalloc
from pathlib import Path

import pytest

from facemllm.data import stream_dataset
from facemllm.data.readers.base import names_in, natural
from facemllm.data.readers.tables import Companion
from facemllm.data.vocabularies import CELEBA_ATTRIBUTES


def test_names_come_in_natural_order_however_few_are_held(tmp_path):
    names = [f"{number}_{number % 7}.jpg" for number in range(300)]
    for name in (*names, "notes.txt"):
        (tmp_path / name).touch()
    wanted = sorted(names, key=natural)
    for most in (1, 7, 100, 300, 1000):
        assert list(names_in(tmp_path, lambda name: name.endswith(".jpg"), most=most)) == wanted


def test_a_companion_list_in_the_same_order_holds_nothing():
    pairs = [(f"{number}.jpg", str(number)) for number in range(1000)]
    companion = Companion(iter(pairs))
    assert [companion.get(key) for key, _ in pairs] == [value for _, value in pairs]
    assert not companion._passed
    backwards = Companion(iter(pairs[::-1]))
    assert [backwards.get(key) for key, _ in pairs] == [value for _, value in pairs]


def make_celeba(root: Path, count: int) -> None:
    """A list of attributes with rows that all point at one picture, which is what is not measured here."""
    (root / "img_align_celeba").mkdir(parents=True)
    values = " ".join(["-1"] * 40)
    names = [f"{number:06d}.jpg" for number in range(1, count + 1)]
    head = [str(count), " ".join(CELEBA_ATTRIBUTES.codes)]
    (root / "list_attr_celeba.txt").write_text("\n".join([*head, *(f"{name} {values}" for name in names)]))
    (root / "list_eval_partition.txt").write_text("\n".join(f"{name} 0" for name in names))
    for name in names:
        (root / "img_align_celeba" / name).touch()


def peak(root: Path) -> int:
    stream = stream_dataset("celeba", root)
    tracemalloc.start()
    for _ in stream:
        pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_celeba_memory_does_not_grow(tmp_path):
    """Empty pictures are skipped and counted, so the whole way of a record is taken."""
    make_celeba(tmp_path / "small", 300)
    make_celeba(tmp_path / "large", 3000)
    peak(tmp_path / "small")  # what is imported and cached on the first pass
    assert peak(tmp_path / "large") < peak(tmp_path / "small") + 50_000


def test_the_measure_notices_a_reader_that_holds_everything(tmp_path):
    make_celeba(tmp_path / "large", 3000)
    tracemalloc.start()
    held = [line.split() for line in (tmp_path / "large/list_attr_celeba.txt").open()]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(held) == 3002
    assert most > 500_000


@pytest.mark.parametrize("count", [20, 2000])
def test_streams_do_not_read_ahead(tmp_path, count):
    make_celeba(tmp_path / "root", count)
    (tmp_path / "root/img_align_celeba/000001.jpg").write_bytes(b"picture")
    stream = iter(stream_dataset("celeba", tmp_path / "root"))
    assert next(stream).id == "img_align_celeba/000001.jpg"
