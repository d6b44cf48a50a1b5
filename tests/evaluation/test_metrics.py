import numpy as np
import pytest

from facemllm.core.errors import MissingExtraError
from facemllm.evaluation.bootstrap import interval, mean_interval, mean_recall_of, share_interval
from facemllm.evaluation.extras import need
from facemllm.evaluation.groups import SMALLEST, group_table
from facemllm.evaluation.metrics import (
    OTHER,
    age_bin_metrics,
    attribute_metrics,
    class_metrics,
    pose_metrics,
    year_metrics,
)

RNG = np.random.default_rng(3)


def test_class_metrics_agree_with_counting():
    truth = ["a"] * 6 + ["b"] * 3 + ["c"]
    predicted = ["a", "a", "a", "a", "b", "x", "b", "b", "c", "a"]
    result = class_metrics(truth, predicted, range(10), ["a", "b", "c", "d"])
    assert result["accuracy"] == 0.6
    assert result["balanced_accuracy"] == pytest.approx((4 / 6 + 2 / 3 + 0) / 3, abs=1e-5)
    assert result["labels"] == ["a", "b", "c", "d", OTHER]
    assert result["confusion"][0] == [4, 1, 0, 0, 1]


def test_a_constant_answer_has_chance_balanced_accuracy():
    result = class_metrics(["a"] * 90 + ["b"] * 10, ["a"] * 100, range(100), ["a", "b"])
    assert result["accuracy"] == 0.9
    assert result["balanced_accuracy"] == 0.5


def test_year_metrics():
    result = year_metrics([20, 30, 40, 69], [20, 36, 41, 75], range(4))
    assert result["mae"] == pytest.approx(13 / 4)
    assert result["cs5"] == 0.5
    assert result["bin_accuracy"] == 0.75
    assert result["within_one_bin"] == 1.0


def test_age_bins_know_their_neighbours():
    result = age_bin_metrics(["20-29", "70+", "0-2"], ["30-39", "60-69", "20-29"], range(3))
    assert result["accuracy"] == 0
    assert result["within_one_bin"] == pytest.approx(2 / 3, abs=1e-5)


def test_pose_without_any_tilt_has_no_tilt_error():
    result = pose_metrics([{"pan": 10, "tilt": 5}] * 3, [{"pan": 0}] * 3, range(3))
    assert (result["mae_pan"], result["mae_tilt"], result["mae"], result["n_tilt"]) == (10, None, 10, 0)


def test_attributes_are_averaged_over_attributes_not_answers():
    names = ["hat"] * 8 + ["smile"] * 2
    truth = ["no"] * 8 + ["yes", "yes"]
    result = attribute_metrics(names, truth, ["no"] * 10, range(10))
    assert result["accuracy"] == 0.5
    assert result["per_attribute"]["smile"]["accuracy"] == 0


def test_interval_covers_the_true_share_about_as_often_as_it_says():
    covered = 0
    for _ in range(60):
        found = mean_interval((RNG.random(150) < 0.7).astype(float), range(150))
        covered += found.low <= 0.7 <= found.high
    assert 50 <= covered <= 60


def test_interval_by_person_is_wider_when_pictures_of_a_person_agree():
    persons = np.repeat(np.arange(20), 10)
    scores = np.repeat((RNG.random(20) < 0.5).astype(float), 10)
    by_person, by_picture = mean_interval(scores, persons), mean_interval(scores, range(200))
    assert by_person.error > 2 * by_picture.error
    assert mean_interval(scores, ["one"] * 200) is None


def test_balanced_statistic_agrees_with_scikit_learn():
    truth = RNG.choice(["a", "b"], 200)
    predicted = np.where(RNG.random(200) < 0.7, truth, "a")
    hits = (truth == predicted)[:, None]
    member = np.stack([truth == "a", truth == "b"], axis=1).astype(float)
    sums = np.hstack([member * hits, member])
    result = class_metrics(list(truth), list(predicted), range(200), ["a", "b"])
    assert mean_recall_of(sums.sum(axis=0)) == pytest.approx(result["balanced_accuracy"], abs=1e-5)
    assert result["intervals"]["balanced_accuracy"] == interval(sums, range(200), mean_recall_of).to_list()


def test_planted_bias_shows_and_its_absence_does_not():
    groups = [{"gender": "female" if i % 2 else "male", "ethnicity": "abc"[i % 3]} for i in range(900)]
    fair = (RNG.random(900) < 0.8).astype(float)
    table = group_table(fair, groups, range(900))
    assert set(table) == {"gender", "ethnicity", "ethnicity x gender"}
    assert not any(column["gap"]["significant"] for column in table.values())
    biased = np.where([row["ethnicity"] == "b" for row in groups], RNG.random(900) < 0.5, fair)
    gap = group_table(biased, groups, range(900))["ethnicity"]["gap"]
    assert gap["significant"]
    assert gap["worst"] == "b"
    errors = group_table(biased, groups, range(900), lower_is_better=True)["ethnicity"]["gap"]
    assert errors["best"] == "b"


def test_small_groups_are_suppressed():
    groups = [{"g": "small" if i < SMALLEST - 1 else "large"} for i in range(100)]
    cells = group_table(np.ones(100), groups, range(100))["g"]["groups"]
    assert cells["small"] == {"n": SMALLEST - 1, "suppressed": True}
    assert cells["large"]["value"] == 1


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.metrics", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'facemllm\[eval\]'"):
        need("sklearn.metrics", "metrics")


@pytest.mark.parametrize("right", [0, 33])
def test_where_all_answers_are_alike_the_interval_is_wilsons(right):
    hits = np.array([1.0] * right + [0.0] * (33 - right))
    z2, share = 1.959964**2, right / 33  # Wilson, 1927: centre and reach, written out
    centre, reach = (share + z2 / 66) / (1 + z2 / 33), z2 / 66 / (1 + z2 / 33)
    found = share_interval(hits, range(33))
    assert (found.low, found.high) == pytest.approx((centre - reach, centre + reach), abs=1e-6)
    assert found.error > 0
    # Eleven people with three pictures each are eleven trials, and errors in years are no shares.
    assert share_interval(hits, [i // 3 for i in range(33)]).error > found.error
    assert mean_interval(hits, range(33)).error == 0
    assert share_interval(np.array([1.0, 0.0] * 20), range(40)) == mean_interval(
        np.array([1.0, 0.0] * 20), range(40)
    )


def test_classes_that_are_all_right_have_an_interval_too():
    kinds = ["a", "b"] * 20
    bounds = class_metrics(kinds, kinds, range(40), ["a", "b"])["intervals"]
    assert bounds["accuracy"] == bounds["balanced_accuracy"]
    assert bounds["accuracy"][0] < 0.95
    assert bounds["accuracy"][1] == 1


def test_age_groups_stand_in_the_order_of_the_vocabulary():
    ages = ["10-19", "3-9", "20-29", "0-2"] * 25
    groups = [{"age_bin": age, "gender": "male" if i % 3 else "female"} for i, age in enumerate(ages)]
    table = group_table(np.array([1.0, 0.0, 1.0, 1.0] * 25), groups, range(100))
    assert list(table["age_bin"]["groups"]) == ["0-2", "3-9", "10-19", "20-29"]
    assert list(table["age_bin x gender"]["groups"])[:3] == ["0-2 / female", "0-2 / male", "3-9 / female"]
    assert table["age_bin"]["groups"]["0-2"]["interval"][0] < 0.9
