import pytest

from facemllm.core.errors import ConfigError
from facemllm.training import ThreeStageRecipe


@pytest.mark.parametrize("name", ThreeStageRecipe.names())
def test_every_shipped_recipe_is_valid(name):
    asked = [stage.ask for stage in ThreeStageRecipe.load(name).stages]
    assert asked[:3] == ["captions", "basic", "all"]
    assert set(asked[3:]) <= {"all"}  # the last stage may go on in another part


def test_overrides_reach_into_lists():
    recipe = ThreeStageRecipe.load("tiny", ("stages.0.steps=7", "seed=3"))
    assert (recipe.stages[0].steps, recipe.seed) == (7, 3)


def test_all_errors_are_told_at_once():
    with pytest.raises(ConfigError, match=r"2 errors.*(?s:.)*stepz.*(?s:.)*colour"):
        ThreeStageRecipe.load("tiny", ("stages.0.stepz=7", "colour=red"))


def test_a_rate_for_a_part_that_does_not_train_is_an_error():
    with pytest.raises(ConfigError, match="lr must name the same parts as train"):
        ThreeStageRecipe.load("tiny", ("stages.0.lr.encoder=0.1",))


@pytest.mark.parametrize(
    ("override", "said"),
    [("stages.2.task_weights.glasses=2", "what is not asked"), ("stages.2.task_weights.age=0", "above zero")],
)
def test_a_weight_is_of_a_task_that_is_asked_about(override, said):
    with pytest.raises(ConfigError, match=said):
        ThreeStageRecipe.load("tiny", (override,))


def test_unknown_recipe_names_the_known():
    with pytest.raises(ConfigError, match="tiny"):
        ThreeStageRecipe.load("tinny")
