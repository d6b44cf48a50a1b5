"""Where a recipe's data come from: named datasets, and tables of one's own beside them."""

import shutil

import pytest

from facemllm.core.errors import ConfigError, DatasetError
from facemllm.training import ThreeStageRecipe, Trainer


def recipe_of(*sources):
    """One step of one stage on these sources."""
    recipe = ThreeStageRecipe.load(
        "tiny", ("encoder_phase=null", "language_phase=null", "stages.0.steps=1", "stages.0.batch_size=4")
    )
    stage = {**recipe.stages[0].model_dump(), "data": sources}
    return ThreeStageRecipe.model_validate({**recipe.model_dump(), "stages": [stage]})


def own_table(place, faces, first_age=40):
    """A csv file of one's own, about copies of the made faces."""
    place.mkdir(parents=True)
    pictures = sorted((faces / "utkface").iterdir())[:4]
    for picture in pictures:
        shutil.copy(picture, place)
    rows = "".join(f"{picture.name},{age},train\n" for age, picture in enumerate(pictures, first_age))
    (place / "labels.csv").write_text(f"image,age,split\n{rows}")
    return place


def test_tables_of_ones_own_are_mixed_with_other_datasets(small_model, made_faces, tmp_path):
    shutil.copytree(made_faces / "utkface", tmp_path / "data/utkface")
    own_table(tmp_path / "data/photos", made_faces)
    far = own_table(tmp_path / "elsewhere/photos", made_faces, 60)  # the same pictures with other labels
    recipe = recipe_of(
        {"dataset": "utkface", "split": "all", "weight": 0.5},
        {"dataset": "csv", "path": "photos", "weight": 0.2},
        {"dataset": "csv", "path": str(far), "weight": 0.3, "tasks": ["age"]},
    )
    trainer = Trainer(
        small_model, recipe, output_dir=tmp_path / "run", data_root=tmp_path / "data", progress=False
    )
    model = trainer.fit()
    said = [(one["dataset"], one.get("path"), one["samples"]) for one in model.config.training_data]
    assert sorted(said, key=str) == [("csv", "photos", 4), ("csv", "photos", 4), ("utkface", None, 8)]
    ages = [[s.labels["age"] for s in trainer.crops(source).samples] for source in recipe.stages[0].data]
    assert ages[1:] == [[40, 41, 42, 43], [60, 61, 62, 63]]  # same names and sizes, and not taken for another
    assert ThreeStageRecipe.load(tmp_path / "run/recipe.yaml") == recipe


def test_an_absolute_path_needs_no_data_root(made_faces, tmp_path, monkeypatch):
    monkeypatch.delenv("FACEMLLM_DATA", raising=False)
    recipe = recipe_of({"dataset": "csv", "path": str(own_table(tmp_path / "photos", made_faces))})
    trainer = Trainer(None, recipe, output_dir=tmp_path / "run", progress=False)
    assert len(trainer.samples(recipe.stages[0].data[0])) == 4


def test_a_folder_of_the_recipe_that_is_not_there(made_faces, tmp_path):
    def samples(source):
        recipe = recipe_of(source)
        trainer = Trainer(None, recipe, output_dir=tmp_path / "run", data_root=made_faces, progress=False)
        return trainer.samples(recipe.stages[0].data[0])

    with pytest.raises(DatasetError, match=r"of the recipe, csv(?s:.)*path: photoz, which is .*photoz"):
        samples({"dataset": "csv", "path": "photoz"})
    with pytest.raises(DatasetError, match=r"cannot find the dataset csv(?s:.)*recipe: as `path`"):
        samples({"dataset": "csv"})
    with pytest.raises(ConfigError, match=r"stages\.0\.data"):
        ThreeStageRecipe.load("tiny", ("stages.0.data=[{dataset: csv, path: ''}]",))


def test_data_of_the_last_stage_is_missed_before_the_first_begins(small_model, made_faces, tmp_path):
    recipe = recipe_of({"dataset": "utkface", "split": "all"})
    lost = recipe.stages[0].model_copy(update={"data": recipe_of({"dataset": "fer2013"}).stages[0].data})
    recipe = recipe.model_copy(update={"stages": (*recipe.stages, lost)})
    with pytest.raises(DatasetError, match="cannot find the dataset fer2013"):
        Trainer(small_model, recipe, output_dir=tmp_path / "run", data_root=made_faces, progress=False).fit()
    assert not (tmp_path / "run/log.jsonl").exists()
