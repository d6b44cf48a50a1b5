"""The arithmetic of benchmarks whose numbers go into the docs, on data whose results are known."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


def runs(**changes):
    """Two seeds of the base and of a variant; ``changes`` are scores of the variant."""
    from benchmarks.ablations import BASE

    base = {"fer2013 expression": [1.0, 0.0] * 50, "utkface age": [4.0] * 99 + [None]}
    for name, tasks in ((BASE, base), ("other", base | changes)):
        for seed in (0, 1):
            yield {"variant": name, "seed": seed, "step_seconds": {"face-tasks": 0.5},
                   "tasks": {k: {"scores": v, "answered": sum(s is not None for s in v)}
                             for k, v in tasks.items()}}  # fmt: skip


def test_a_variant_is_compared_on_the_same_faces():
    from benchmarks.ablations import compare, to_markdown

    worse = [0.0] * 50 + [1.0, 0.0] * 25
    table = compare(list(runs(**{"fer2013 expression": worse})))
    cell = table["other"]["tasks"]["fer2013 expression"]
    assert (cell["mean"], cell["difference"]) == (0.25, -0.25)
    assert cell["interval"][0] < -0.25 < cell["interval"][1] < 0
    same = table["other"]["tasks"]["utkface age"]
    assert (same["mean"], same["difference"], same["interval"], same["answered"]) == (4.0, 0, [0, 0], 198)
    page = to_markdown(table)
    assert "**-25.0" in page  # in bold, as its interval leaves out zero
    assert "+0.0 (+0.0 to +0.0)" in page


def test_a_variant_that_does_not_answer_says_so():
    from benchmarks.ablations import compare, to_markdown

    table = compare(list(runs(**{"utkface age": [4.0] * 20 + [None] * 80})))
    assert "4.00 (20 % answered)" in to_markdown(table)
    silent = compare(list(runs(**{"utkface age": [None] * 100})))
    assert "– (0 % answered)" in to_markdown(silent)
    assert "nan" not in to_markdown(silent)


def test_every_variant_is_a_recipe_and_changes_what_it_says():
    from benchmarks.ablations import VARIANTS, recipe_of

    recipes = {variant.name: recipe_of(variant, 0) for variant in VARIANTS}
    assert [len(recipe.stages) for recipe in list(recipes.values())[:6]] == [3, 2, 3, 2, 2, 1]
    assert recipes["stage 3 alone, with the steps of all"].stages[0].steps == 730
    quicker, base = (recipes[name].stages for name in ("stage 1 at ten times the rate", "all three stages"))
    assert quicker[0].lr["connector"] == pytest.approx(base[0].lr["connector"] * 10)
    assert quicker[1:] == base[1:]
    assert recipes["LoRA, rank 16"].lora["r"] == 16
    assert set(recipes["LoRA, rank 16"].stages[1].train) == {"connector", "lora"}
    assert recipes["with region tokens"].encoder["name"] == "region-guided"
    dumps = [json.dumps(recipe.model_dump(mode="json")) for recipe in recipes.values()]
    assert len(set(dumps)) == len(dumps) - 1  # rows in place of branches are not a matter of the recipe


def test_area_under_the_curve_and_balanced_accuracy():
    from benchmarks.smol import auc, balanced, scored

    truth = np.array([True] * 30 + [False] * 70)
    assert auc(truth, truth * 0.1) == 1.0  # order alone counts
    assert auc(truth, np.full(100, 0.3)) == 0.5
    assert balanced(truth, np.full(100, True)) == 0.5
    found = scored(truth, np.random.default_rng(0).random(100))
    low, high = found["auc_interval"]
    assert low < 0.5 < high
    assert found["auc"] == pytest.approx(0.5, abs=0.15)


def test_attributes_of_the_zero_shot_part_are_those_smol_never_saw():
    from benchmarks.smol import SEEN, UNSEEN, _rule

    from facemllm.training import ThreeStageRecipe

    for stage in ThreeStageRecipe.load("smol").stages:
        for table, expected in ((UNSEEN, True), (SEEN, False)):
            for _, task, first in table.values():
                texts = [one.text.lower() for one in _rule(task, first).texts if not one.held_out]
                left_out = [any(word in text for word in stage.leave_out) for text in texts]
                assert all(left_out) if expected else not any(left_out), texts


def test_the_pages_hold_the_numbers_of_their_files():
    from benchmarks import sizing

    kept = json.loads((ROOT / "benchmarks" / "results" / "sizing.json").read_text())
    page = sizing.PAGE.read_text()
    assert sizing.recipe_table(kept["recipes"]) in page
    assert sizing.laion_table(kept["laion"]) in page


def test_nobody_trains_on_the_wordings_of_others():
    from benchmarks.wordings import ASKED_OF, read_questions

    from facemllm.data.phrasings import question_set, usable
    from facemllm.data.unknown import unknown_templates

    asked = read_questions()
    assert asked.keys() == ASKED_OF.keys()
    for task, questions in asked.items():
        trained = (
            unknown_templates("train")
            if task == "unknown"
            else [one.text for one in usable(question_set(task).open, "train")]
        )
        assert len(questions) >= 35
        assert not {_bare(text) for text in questions} & {_bare(text) for text in trained}


def _bare(text):
    return re.sub(r"\W+", " ", text.lower()).strip()
