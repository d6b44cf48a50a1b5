"""The whole path on real pixels: phases, stages, what moved, resume."""

import json

import pytest
import yaml

from facemllm.core.errors import DatasetError, TrainingError
from facemllm.data import read_dataset
from facemllm.model import AutoFaceMLLM
from facemllm.training import ThreeStageRecipe, Trainer
from facemllm.training.language_phase import make_language_model
from facemllm.training.progress import RunLog

SMALL = (
    "encoder.base.pretrained=false",
    "encoder_phase={steps: 2, batch_size: 4, batch_norm: true, data: [{dataset: utkface, split: all}]}",
    "language_phase={steps: 3, batch_size: 8, texts: 200, hidden_size: 32, layers: 1, heads: 2, vocab_size: 700}",  # noqa: E501
    *(f"stages.{i}.steps={2 + i}" for i in range(3)),
    *(f"stages.{i}.batch_size=4" for i in range(3)),
    *(f"stages.{i}.data=[{{dataset: utkface, split: all}}]" for i in range(3)),
)


def three_stages(overrides):
    """Return ``tiny`` without the second part of its last stage."""
    loaded = ThreeStageRecipe.load("tiny", overrides)
    return loaded.model_copy(update={"stages": loaded.stages[:3]})


@pytest.fixture
def recipe():
    return three_stages(SMALL)


def run(recipe, root, out, **options):
    return Trainer(None, recipe, output_dir=out, data_root=root, progress=False).fit(**options)


def moved(folder):
    return set(yaml.safe_load((folder / "movement.yaml").read_text())["moved"])


def test_each_stage_trains_what_it_says_and_nothing_else(recipe, faces_root, portrait, tmp_path):
    model = run(recipe, faces_root, tmp_path / "run")
    stages = tmp_path / "run" / "stages"
    assert {name.split(".")[0] for name in moved(stages / "1-alignment")} == {"connector"}
    assert {name.split(".")[0] for name in moved(stages / "3-face-tasks")} == {"connector", "language_model"}
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {line["phase"] for line in lines} == {
        "language",
        "encoder",
        "alignment",
        "basic-vqa",
        "face-tasks",
    }
    saved = AutoFaceMLLM.from_pretrained(tmp_path / "run" / "model")
    assert (
        saved.ask(portrait, "How old is this person?").text
        == model.ask(portrait, "How old is this person?").text
    )
    assert set(saved.heads) == {"expression", "age", "gender", "ethnicity", "pose"}
    assert saved.config.training_data[0]["dataset"] == "utkface"


def test_an_output_folder_is_not_overwritten(recipe, faces_root, tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: other\n")
    (tmp_path / "log.jsonl").write_text("{}\n")
    with pytest.raises(TrainingError, match="holds a run already"):
        run(recipe, faces_root, tmp_path)
    with pytest.raises(TrainingError, match="another recipe"):
        run(recipe, faces_root, tmp_path, resume=True)


def test_without_data_it_says_so(recipe, tmp_path, monkeypatch):
    monkeypatch.delenv("FACEMLLM_DATA", raising=False)
    with pytest.raises(TrainingError, match="no data to train on"):
        Trainer(None, recipe, output_dir=tmp_path, progress=False).fit()


def test_a_stage_may_train_the_encoder(recipe, faces_root, tmp_path):
    changed = three_stages(
        (*SMALL, "stages.2.train=[encoder, connector]", "stages.2.lr={encoder: 0.001, connector: 0.001}"),
    )
    run(changed, faces_root, tmp_path / "run")
    parts = {name.split(".")[0] for name in moved(tmp_path / "run" / "stages" / "3-face-tasks")}
    assert parts == {"encoder", "connector"}


def test_a_start_that_failed_does_not_hold_the_folder(recipe, faces_root, tmp_path):
    with pytest.raises(DatasetError):
        run(recipe, tmp_path / "nothing", tmp_path / "run")
    assert not (tmp_path / "run" / "log.jsonl").exists()
    other = recipe.model_copy(update={"seed": 1})
    trainer = Trainer(None, other, output_dir=tmp_path / "run", data_root=faces_root, progress=False)
    trainer._claim(resume=False)
    assert "seed: 1" in (tmp_path / "run" / "recipe.yaml").read_text()


def test_a_language_model_does_not_go_on_with_other_texts(recipe, faces_root, tmp_path):
    phase, log = recipe.language_phase, RunLog(tmp_path / "log.jsonl")
    datasets = [read_dataset("utkface", faces_root, split="all")]
    options = {"tasks": ("age", "gender"), "folder": tmp_path, "log": log, "progress": False}
    made = make_language_model(phase, datasets, seed=0, **options)
    again = make_language_model(phase, datasets, seed=0, **options)
    assert again.tokenizer.get_vocab() == made.tokenizer.get_vocab()
    with pytest.raises(TrainingError, match="texts are not those"):
        make_language_model(phase, datasets, seed=1, **options)
