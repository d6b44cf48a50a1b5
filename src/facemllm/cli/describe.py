"""``facemllm describe``: what a photo's faces look like, in words."""

from __future__ import annotations

from typing import Annotated

import typer

from facemllm.cli.options import AsJson, Crop, Model, check_photo, load_model, print_json


def describe(
    image: Annotated[str, typer.Argument(help="A photo.")],
    model: Model = "facemllm-tiny",
    crop: Crop = None,
    json: AsJson = False,
) -> None:
    """Describe every face in a photo, the most prominent first."""
    check_photo(image)
    answers = load_model(model).describe(image, crop=crop, faces="all")
    if json:
        print_json({"image": image, "model": model, "faces": [answer.to_dict() for answer in answers]})
        return
    for number, answer in enumerate(answers, start=1):
        print(f"face {number}: {answer.text}" if len(answers) > 1 else answer.text)
