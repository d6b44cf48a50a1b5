"""Configuration: what is wrong is told with the names that were probably meant."""

import pytest
from typer.testing import CliRunner

from facemllm.cli.main import app
from facemllm.core.config import StrictModel, validate
from facemllm.core.errors import ConfigError, TrainingError
from facemllm.training import ThreeStageRecipe


class Inner(StrictModel):
    steps: int = 1


class Outer(StrictModel):
    name: str = ""
    parts: tuple[Inner, ...] = ()
    one: Inner | None = None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"nam": 1}, r"nam: .*; did you mean name\?(?s:.)*fields of Outer: name, parts, one"),
        (
            {"parts": [{"stepz": 1}]},
            r"parts\.0\.stepz: .*; did you mean steps\?(?s:.)*fields of Inner: steps",
        ),
        ({"one": {"step": 1}}, r"one\.step: .*; did you mean steps\?"),
        ({"one": {"steps": "x"}}, r"one\.steps: Input should be a valid integer"),
    ],
)
def test_an_unknown_key_names_the_nearest(values, said):
    with pytest.raises(ConfigError, match=said):
        validate(Outer, values, source="a file")


def test_nothing_is_suggested_where_nothing_is_near():
    with pytest.raises(ConfigError) as caught:
        validate(Outer, {"xyzzy": 1}, source="a file")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("stage.0.steps=5", r"stage: .*; did you mean stages\?"),
        ("stages.0.warm=0.1", r"stages\.0\.warm: .*; did you mean warmup"),
        ("stages.0.held_out.evry=3", r"stages\.0\.held_out\.evry: .*; did you mean every\?"),
        ("stages.9.steps=5", "override does not fit"),
        ("seed=[1", "cannot read override"),
        ("seed", "cannot read override"),
    ],
)
def test_overrides_of_a_recipe(override, said):
    with pytest.raises(ConfigError, match=said):
        ThreeStageRecipe.load("tiny", (override,))


def test_quiet_training_silences_the_bars_of_transformers(tmp_path, monkeypatch):
    from transformers.utils import logging

    monkeypatch.delenv("FACEMLLM_DATA", raising=False)
    before = logging.is_progress_bar_enabled()
    try:
        logging.enable_progress_bar()
        for arguments, bars in (((), True), (("--quiet",), False)):
            result = CliRunner().invoke(app, ["train", "tiny", "--out", str(tmp_path / "run"), *arguments])
            assert isinstance(result.exception, TrainingError)
            assert logging.is_progress_bar_enabled() is bars
    finally:
        (logging.enable_progress_bar if before else logging.disable_progress_bar)()
