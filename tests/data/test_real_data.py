"""The readers on real datasets, where the folder that holds them is named by FACEMLLM_DATA."""

import os
import random
from pathlib import Path

import pytest

from facemllm.core.errors import DatasetError
from facemllm.data import TASKS, parse, read_dataset, write_questions

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
