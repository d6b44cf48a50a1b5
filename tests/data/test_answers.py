import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemllm.core.errors import DatasetError
from facemllm.data import UNKNOWN, parse, render
from facemllm.data.answers import render_lettered, render_pose, round_pose


@given(pan=st.floats(-180, 180), tilt=st.floats(-90, 90))
def test_pose_reads_back(pan, tilt):
    pose = {"pan": pan, "tilt": tilt}
    assert parse("pose", render("pose", pose)) == round_pose(pose)


def test_pose_says_left_for_positive_pan_and_up_for_positive_tilt():
    assert render_pose(30, 15) == "pan 30 degrees left, tilt 15 degrees up"
    assert render_pose(-45, -15) == "pan 45 degrees right, tilt 15 degrees down"
    assert render_pose(0.2, -0.4) == "pan 0 degrees, tilt 0 degrees"
    assert render_pose(1, -1) == "pan 1 degree left, tilt 1 degree down"


@given(age=st.floats(0, 120))
def test_age_reads_back_within_half_a_year(age):
    assert abs(parse("age", render("age", age)) - age) <= 0.5


def test_options_read_back_by_text_and_letter():
    options = ("happy", "sad")
    assert render_lettered(options) == "A) happy B) sad"
    assert parse("expression", "sad", options) == parse("expression", "B", options) == "sad"
    assert parse("anything", UNKNOWN) is None


@pytest.mark.parametrize(
    ("task", "text", "options"),
    [
        ("expression", "joy", None),
        ("age", "about 30", None),
        ("pose", "pan 30 degrees up, tilt 0 degrees", None),
        ("gender", "C", ("male", "female")),
        ("unknown", "Paris", None),
    ],
)
def test_other_texts_are_refused(task, text, options):
    with pytest.raises(DatasetError, match="not a canonical answer"):
        parse(task, text, options)
