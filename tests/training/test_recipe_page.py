"""docs/recipe.md names every option with its default, and its examples use every one."""

import re
from pathlib import Path

import pytest
import yaml

from facemllm.training import DataSource, EncoderPhase, HeldOut, LanguagePhase, Stage, ThreeStageRecipe

PAGE = (Path(__file__).parents[2] / "docs" / "recipe.md").read_text()
MODELS = {
    "The recipe": ("recipe", ThreeStageRecipe),
    "A stage": ("stage", Stage),
    "A data source": ("source", DataSource),
    "Held-out part": ("held-out", HeldOut),
    "Encoder phase": ("encoder-phase", EncoderPhase),
    "Language phase": ("language-phase", LanguagePhase),
}


def written(default):
    """Return a default as the page writes it."""
    if default is None:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ", ".join(default) or "()"
    if isinstance(default, dict):
        return "{" + ", ".join(f"{key}: {value}" for key, value in default.items()) + "}"
    return f"{default:.10g}" if isinstance(default, (int, float)) else str(default)


def differing(page, title, model):
    """Return the options of which the page's table says something else than the code."""
    section = page.split(f"\n## {title}\n")[1].split("\n## ")[0].split("\n### ")[0]
    table = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", section, re.MULTILINE))
    code = {
        name: "needed" if field.is_required() else written(field.get_default(call_default_factory=True))
        for name, field in model.model_fields.items()
    }
    return {name for name in {*table, *code} if table.get(name) != code.get(name)}


def unused(page, kind, model):
    """Return the options that no example of a kind uses; each example must be valid."""
    examples = [
        yaml.safe_load(text) for text in re.findall(rf'```yaml title="{kind}"\n(.+?)```', page, re.DOTALL)
    ]
    for example in examples:
        model.model_validate(example)
    return set(model.model_fields) - {key for example in examples for key in example}


@pytest.mark.parametrize("title", MODELS)
def test_every_option_is_there_with_its_default_and_an_example(title):
    kind, model = MODELS[title]
    assert differing(PAGE, title, model) == set()
    assert unused(PAGE, kind, model) == set()


def test_a_page_that_is_out_of_date_is_seen():
    old = PAGE.replace("| `warmup` | 0.03 |", "| `warmup` | 0.05 |").replace("accumulate", "accumulates")
    assert differing(old, "A stage", Stage) == {"warmup", "accumulate", "accumulates"}
    with pytest.raises(ValueError, match="accumulates"):
        unused(old, "stage", Stage)
    assert unused(PAGE.replace("\npatience: 3", ""), "held-out", HeldOut) == {"patience"}
