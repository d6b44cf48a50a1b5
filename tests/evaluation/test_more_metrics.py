"""Calibration, verification, action units, angles between poses: each against an independent reckoning."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from facemllm.core.errors import ConfigError
from facemllm.evaluation.calibration import calibration_metrics
from facemllm.evaluation.groups import group_table
from facemllm.evaluation.metrics import pose_metrics, year_metrics
from facemllm.evaluation.rotations import geodesic_degrees
from facemllm.evaluation.unit_metrics import unit_metrics
from facemllm.evaluation.verification import best_threshold, verification_metrics

ANGLES = st.integers(-89, 89)


def _rotation(pan: float, tilt: float, roll: float) -> np.ndarray:
    a, b, c = np.radians([pan, tilt, roll])
    y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return y @ x @ z


@given(ANGLES, ANGLES, ANGLES, ANGLES, ANGLES, ANGLES)
def test_geodesic_is_the_angle_of_the_relative_rotation(a, b, c, d, e, f):
    angles = (a, b, c, d, e, f)
    poses = [dict(zip(("pan", "tilt", "roll"), part, strict=True)) for part in (angles[:3], angles[3:])]
    one, other = (_rotation(*part) for part in (angles[:3], angles[3:]))
    cosine = np.clip((np.trace(one.T @ other) - 1) / 2, -1, 1)
    [found] = geodesic_degrees([poses[0]], [poses[1]])
    assert found == pytest.approx(np.degrees(np.arccos(cosine)), abs=1e-4)
    assert geodesic_degrees([poses[0]], [poses[0]])[0] == pytest.approx(0, abs=1e-4)


def test_pose_metrics_hold_roll_only_where_labels_do():
    truth = [{"pan": 30.0, "tilt": 0.0}] * 4
    result = pose_metrics(truth, [{"pan": 10.0, "tilt": 0.0, "roll": 90.0}] * 4, range(4))
    assert result["geodesic"] == pytest.approx(20)
    assert "mae_roll" not in result
    rolled = pose_metrics(
        [pose | {"roll": 5.0} for pose in truth], [{"pan": 30.0, "tilt": 0.0, "roll": 0.0}] * 4, range(4)
    )
    assert (rolled["mae_roll"], rolled["mae"]) == (5.0, pytest.approx(5 / 3, abs=1e-5))
    assert pose_metrics(truth, [{"pan": 30.0}] * 4, range(4))["geodesic"] is None


def test_age_bins_have_intervals():
    result = year_metrics([20, 31, 45, 70], [25, 28, 62, 71], range(4))
    for name in ("mae", "cs5", "bin_accuracy", "within_one_bin"):
        low, high = result["intervals"][name]
        assert low <= result[name] <= high


# --- calibration


def test_a_calibrated_model_has_almost_no_error_and_an_overconfident_one_has():
    rng = np.random.default_rng(0)
    share = rng.uniform(0.5, 1, 3000)
    truth = np.where(rng.random(3000) < share, "yes", "no").tolist()
    honest = calibration_metrics([{"yes": p, "no": 1 - p} for p in share], truth, range(3000))
    assert honest["ece"] < 0.05
    boastful = calibration_metrics([{"yes": 0.99, "no": 0.01}] * 3000, truth, range(3000))
    assert boastful["ece"] == pytest.approx(0.99 - truth.count("yes") / 3000, abs=1e-5)
    low, high = boastful["intervals"]["ece"]
    assert low < boastful["ece"] < high
    assert honest["brier"] < boastful["brier"]
    assert sum(one["n"] for one in honest["reliability"]) == 3000
    for one in honest["reliability"]:
        assert one["from"] <= one["confidence"] <= one["to"]


def test_calibration_agrees_with_a_plain_loop():
    rng = np.random.default_rng(1)
    rows = rng.dirichlet([1, 1, 1], 500)
    truth = rng.choice(["a", "b", "c"], 500)
    found = calibration_metrics(
        [dict(zip("abc", row, strict=True)) for row in rows], truth.tolist(), range(500)
    )
    total = 0.0
    for low in range(15):
        inside = [
            i
            for i, row in enumerate(rows)
            if low / 15 <= row.max() < (low + 1) / 15 or (low == 14 and row.max() == 1)
        ]
        if inside:
            hits = np.mean([truth[i] == "abc"[rows[i].argmax()] for i in inside])
            total += len(inside) / 500 * abs(hits - np.mean([rows[i].max() for i in inside]))
    assert found["ece"] == pytest.approx(total, abs=1e-5)


# --- verification


def test_threshold_is_never_chosen_on_the_fold_it_is_used_on():
    # In fold 0 scores mean the opposite: a threshold chosen there too would hide it.
    scores = [0.9, 0.1] * 5 + [0.1, 0.9] * 45
    same = [True, False] * 50
    folds = [0] * 10 + [1 + i // 10 for i in range(90)]
    result = verification_metrics(scores, [not s for s in same], folds=folds)
    assert result["accuracy"] == pytest.approx(0.9)


def test_equal_scores_cannot_be_cut_apart():
    assert best_threshold([0.5, 0.5, 0.5], [True, False, True]) < 0.5
    result = verification_metrics([0.5] * 40, [True, False] * 20)
    assert result["accuracy"] == 0.5


def test_true_accepts_at_false_accepts_agree_with_counting():
    rng = np.random.default_rng(2)
    same = np.arange(2000) % 2 == 0
    scores = rng.normal(same * 1.5, 1)
    result = verification_metrics(scores, same)
    for rate in (0.1, 0.01):
        strangers = np.sort(scores[~same])[::-1]
        threshold = strangers[int(rate * len(strangers))]  # so many strangers score above it
        counted = np.mean(scores[same] > threshold)
        assert result["tar_at_far"][f"{rate:g}"] == pytest.approx(counted, abs=0.01)
    assert result["tar_at_far"]["0.0001"] is None
    low, high = result["intervals"]["accuracy"]
    assert low < result["accuracy"] < high
    with pytest.raises(ConfigError, match="cannot measure verification"):
        verification_metrics([0.1, 0.2], [True, True])


# --- action units


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from([1, 4, 12])), st.sets(st.sampled_from([1, 4, 12, 99]))),
        min_size=4,
        max_size=30,
    )
)
@settings(max_examples=8, deadline=None)
def test_unit_f1_agrees_with_scikit_learn(rows):
    truth, predicted = [row[0] for row in rows], [row[1] for row in rows]
    result = unit_metrics(truth, predicted, range(len(rows)), [1, 4, 12])
    for unit in (1, 4, 12):
        right, said = [unit in row for row in truth], [unit in row for row in predicted]
        expected = f1_score(right, said, zero_division=0) if any(right) or any(said) else None
        found = result["per_unit"][f"AU{unit}"]["f1"]
        assert found == (None if expected is None else pytest.approx(expected, abs=1e-5))


def test_no_subject_straddles_folds():
    subjects = ["a", "b", "c", "a", "b", "c"]
    truth = [{4}] * 6
    predicted = [{4}, set(), {4}, {4}, set(), {4}]  # subject b is always missed
    result = unit_metrics(truth, predicted, subjects, [4], folds=3)
    assert sorted(result["folds"]) == [0.0, 1.0, 1.0]
    assert result["f1_folds"] == pytest.approx(2 / 3, abs=1e-5)
    assert unit_metrics(truth, predicted, subjects, [4], folds={"a": 0, "b": 0, "c": 1})["folds"][1] == 1.0
    with pytest.raises(ConfigError, match="subjects have no fold"):
        unit_metrics(truth, predicted, subjects, [4], folds={"a": 0})


# --- groups


def test_fair_models_are_seldom_called_unfair_and_biased_ones_are():
    rng = np.random.default_rng(5)
    groups = [{"g": "abcd"[i % 4]} for i in range(400)]
    unfair = np.array([row["g"] == "c" for row in groups])
    called = {"fair": 0, "biased": 0}
    for _ in range(16):
        fair = rng.random(400) < 0.8
        biased = np.where(unfair, rng.random(400) < 0.45, fair)
        for name, scores in (("fair", fair), ("biased", biased)):
            gap = group_table(scores.astype(float), groups, range(400))["g"]["gap"]
            called[name] += gap["significant"] and (name == "fair" or gap["worst"] == "c")
    assert called["fair"] <= 2
    assert called["biased"] >= 14
