"""The readers on real datasets, where the folder that holds them is named by FACEMLLM_DATA."""

import os
import random
from pathlib import Path

import pytest

from facemllm.core.errors import DatasetError
from facemllm.data import TASKS, parse, read_dataset, read_pairs, write_questions

_ROOT = os.environ.get("FACEMLLM_DATA", "")
_TASKS = {
    "fairface": {"age_bin", "gender", "ethnicity"},
    "utkface": {"age", "gender", "ethnicity"},
    "fer2013": {"expression"},
    "pointing04": {"pose"},
    "celeba": {"attributes", "gender"},
    "lfw": {"gender"},
}

pytestmark = pytest.mark.skipif(not _ROOT, reason="FACEMLLM_DATA does not name a folder of datasets")


@pytest.mark.parametrize("name", sorted(_TASKS))
def test_reads_the_real_files(name):
    try:
        dataset = read_dataset(name, Path(_ROOT))
    except DatasetError as error:
        if "cannot find" not in error.what:
            raise
        pytest.skip(f"FACEMLLM_DATA holds no {name}")
    assert set(dataset.tasks) == _TASKS[name]
    assert dataset.skipped.total <= 0.001 * len(dataset)
    rng = random.Random(0)
    for sample in rng.sample(dataset.samples, min(len(dataset), 50)):
        for qa in write_questions(sample, rng, TASKS):
            assert parse(qa.task, qa.answer, qa.options) == qa.label


def real(name, root):
    try:
        return read_dataset(name, Path(root))
    except DatasetError as error:
        if "cannot find" not in error.what:
            raise
        pytest.skip(f"FACEMLLM_DATA holds no {name}")


def test_trap_malformed_utkface_names():
    """A published name lacks its race: it is shown by name, and strict stops there."""
    dataset = real("utkface", _ROOT)
    bad = [record for _, record, _ in dataset.skipped.examples]
    if not bad:
        pytest.skip("this copy of UTKFace has no malformed name")
    assert dataset.skipped.reasons == {"name is not [age]_[gender]_[race]_[date]": len(bad)}
    assert "61_3_20170109150557335.jpg.chip.jpg" in bad
    with pytest.raises(DatasetError, match="name is not"):
        read_dataset("utkface", Path(_ROOT), strict=True)


def test_trap_celeba_boxes_are_in_uncropped_coordinates(tmp_path):
    """list_bbox_celeba.txt refers to pictures before alignment, so it must not become the face box."""
    dataset = real("celeba", _ROOT)
    assert all(sample.box is None for sample in dataset)
    root = tmp_path / "celeba"
    source = Path(dataset[0].image).parents[1]
    root.mkdir()
    for path in source.iterdir():
        (root / path.name).symlink_to(path)
    rows = [f"{Path(sample.image).name}    95  71 226 313" for sample in dataset]  # wider than 178 pixels
    head = [str(len(rows)), "image_id x_1 y_1 width height"]
    (root / "list_bbox_celeba.txt").write_text("\n".join([*head, *rows]))
    assert [sample.box for sample in read_dataset("celeba", root)] == [None] * len(dataset)


def test_lfw_view_1_pairs_of_the_real_list():
    real("lfw", _ROOT)
    pairs = read_pairs("lfw", Path(_ROOT), "dev-train")
    assert len(pairs) + pairs.skipped.total == 2200
    assert sum(pair.same for pair in pairs) == 1100
