"""What the task heads say, where a label is missing and in place of one."""

import pytest
import torch

from facemllm.data import FaceSample
from facemllm.heads import create_head
from facemllm.training.estimates import Estimates

FEATURES = torch.zeros(4, 8)


def sample(**labels):
    return FaceSample(id="1", image="x.jpg", labels=labels, dataset="fairface", licence="t")


@pytest.fixture
def estimates():
    """Heads whose bias alone decides: happy, 33 years, female, indian, pan 40 degrees."""
    heads = {
        "expression": create_head("classification", in_dim=8, classes=["happy", "sad"]),
        "gender": create_head("classification", in_dim=8, classes=["female", "male"]),
        "ethnicity": create_head("classification", in_dim=8, classes=["indian", "white"]),
        "age": create_head("age", in_dim=8),
        "pose": create_head("angles", in_dim=8, angles=("pan", "tilt")),
    }
    with torch.no_grad():
        for name, head in heads.items():
            outputs = head(FEATURES[None])[0]
            wanted = {"age": 33, "pose": 0}.get(name, 0)
            head.linear.weight.zero_()
            head.linear.bias.zero_()
            head.linear.bias[wanted] = 40.0 / 90 if name == "pose" else 60.0
            assert outputs.shape == head.linear.bias.shape
    pan = heads["pose"].predict(heads["pose"](FEATURES[None]))[0]["pan"]
    heads["pose"].linear.bias.data[0] *= 40.0 / pan
    return Estimates(heads)


def test_what_is_missing_is_filled_in_but_never_gender_or_ethnicity(estimates):
    filled = estimates(sample(age_bin="20-29"), FEATURES)
    assert filled.labels["expression"] == "happy"
    assert filled.labels["pose"] == {"pan": 45.0, "tilt": 0.0}  # to the step of photographed poses
    assert filled.labels["age"] == 29.0  # as near to 33 as the known group allows
    assert not {"gender", "ethnicity"} & set(filled.labels)


def test_what_is_known_stays(estimates):
    known = sample(expression="sad", age=50.0, pose={"pan": 0.0, "tilt": 0.0})
    assert estimates(known, FEATURES).labels == known.labels


def test_a_head_speaks_instead_of_the_labels_that_are_there(estimates):
    taught = estimates.instead(sample(gender="male", age_bin="20-29"), FEATURES, ["gender", "age", "age_bin"])
    assert taught.labels == {"gender": "female", "age_bin": "30-39", "age": pytest.approx(33.0, abs=0.1)}


def test_a_head_speaks_of_the_named_tasks_only(estimates):
    known = sample(gender="male", ethnicity="white", age=50.0)
    assert estimates.instead(known, FEATURES, ["ethnicity"]).labels == {**known.labels, "ethnicity": "indian"}
    assert estimates.instead(sample(), FEATURES, ["gender", "age", "pose"]).labels == {}


def test_what_no_head_can_say_is_told_apart(estimates):
    labels = {"gender": "male", "age_bin": "20-29", "attributes": {"Bald": True}, "affect": {}}
    assert estimates.known(labels) == {"gender": "male", "age_bin": "20-29"}
