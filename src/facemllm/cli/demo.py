"""``facemllm demo``: the built-in model on a public-domain portrait."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated

import typer

from facemllm.cli.options import AsJson, Model, load_model, print_json

QUESTIONS = [
    "What is the expression of this person?",
    "How old is this person?",
    "What is the head pose?",
    "Is the person smiling?",
    "What is this person's phone number?",
]


def demo(
    out: Annotated[str, typer.Option(help="Where the picture with the answers goes.")] = "demo.png",
    model: Model = "facemllm-tiny",
    json: AsJson = False,
) -> None:
    """Ask the built-in model about a portrait (Eileen Collins, NASA, public domain)."""
    from facemllm.cli.picture import check_destination, save_picture

    portrait = str(files("facemllm") / "assets" / "portrait.jpg")
    check_destination(out, portrait)
    loaded = load_model(model)
    from facemllm.model.asking import DESCRIBE  # after the libraries underneath were silenced

    answers = loaded.ask(portrait, [*QUESTIONS, DESCRIBE], faces="all")
    save_picture(portrait, answers, out)
    *answered, description = answers[0]
    if json:
        print_json(
            {
                "model": model,
                "picture": out,
                "answers": [a.to_dict() for a in answered],
                "description": description.text,
            }
        )
        return
    for answer in answers[0]:
        print(f"{answer.question}\n  {answer.text}")
    print(f"saved {out}")
