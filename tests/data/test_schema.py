import subprocess
import sys

import pytest
from pydantic import ValidationError

from facemllm.data import Dataset, FaceSample, SkipReport


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"expression": "joy"}, "expression must be one of"),
        ({"age": 200}, "age must lie between"),
        ({"pose": {"yaw": 1.0}}, "pan and tilt"),
        ({"attributes": {"bald": 1}}, "True or False"),
        ({"mood": "happy"}, "unknown task 'mood'"),
    ],
)
def test_labels_outside_the_vocabularies_are_refused(labels, message):
    with pytest.raises(ValidationError, match=message):
        FaceSample(id="1", image="1.jpg", labels=labels, dataset="mine", licence="own")


def test_samples_survive_json(sample):
    one = sample(age=34, pose={"pan": 15, "tilt": -30}, attributes={"bald": False})
    assert FaceSample.model_validate_json(one.model_dump_json()) == one


def test_skip_report_counts_all_and_shows_the_first_few():
    report = SkipReport()
    for line in range(8):
        report.add(f"line {line}", "x", "unknown age" if line else "image not found")
    text = str(report)
    assert report.total == 8
    assert "7 x unknown age, 1 x image not found" in text
    assert "line 4" in text
    assert "line 5" not in text
    assert text.endswith("and 3 more")


def test_dataset_counts_and_tasks(sample):
    samples = [sample(gender="male"), sample(gender="male"), sample(age=3), sample(attributes={"bald": True})]
    dataset = Dataset("mine", "all", samples, skipped=SkipReport(), licence="own")
    assert dataset.tasks == ("age", "attributes", "gender")
    assert dataset.counts("gender") == {"male": 2}
    assert dataset.counts("attributes") == {"bald": 1}
    assert dataset[1:3] == (samples[1], samples[2])


def test_reading_labels_needs_neither_torch_nor_scipy():
    script = "import facemllm.data, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "scipy", "pyarrow", "transformers", "datasets", "PIL"} & set(done.stdout.split())


POINTS = ((1, 2), (3, 2), (2, 3), (1, 4), (3, 4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"landmarks": {"scheme": "five", "points": POINTS}}, "of a scheme among"),
        ({"landmarks": {"scheme": "five-1", "points": POINTS[:4]}}, "must be 5, got 4"),
        ({"landmarks": {"scheme": "five-1", "points": [*POINTS[:4], (1, float("nan"))]}}, "must be finite"),
        ({"cannot_tell": ("age",)}, "cannot_tell must name"),
        ({"cannot_tell": ("gender",), "labels": {"gender": "male"}}, "at the same time"),
        ({"labels": {"pose": {"pan": 0, "tilt": 200}}}, "between -180 and 180"),
        ({"labels": {"action_units": {"AU99": True}}}, "action_units must be among"),
        ({"labels": {"au_intensity": {"AU1": 6}}}, "between 0 and 5"),
        ({"labels": {"au_intensity": {"AU99": 1}}}, "au_intensity must be of"),
        ({"labels": {"affect": {"valence": 2, "arousal": 0}}}, "valence and arousal"),
        ({"labels": {"age_range": (30, 20)}}, "two rising ages"),
        ({"labels": {"expression_votes": {"happy": -1}}}, "whole numbers"),
        ({"labels": {"conversation": []}}, "at least one turn"),
        ({"labels": {"caption": " "}}, "must not be empty"),
        ({"version": 2}, "Input should be 1"),
    ],
)
def test_what_a_record_may_not_say(fields, message):
    with pytest.raises(ValidationError, match=message):
        FaceSample(
            **{"id": "1", "image": "1.jpg", "labels": {}, "dataset": "mine", "licence": "own", **fields}
        )
