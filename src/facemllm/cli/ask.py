"""``facemllm ask``: questions about every face in a photo."""

from __future__ import annotations

from typing import Annotated

import typer

from facemllm.cli.options import AsJson, Crop, Model, check_photo, load_model, print_json


def ask(
    image: Annotated[str, typer.Argument(help="A photo.")],
    questions: Annotated[list[str], typer.Argument(help="One or more questions.", metavar="QUESTION...")],
    model: Model = "facemllm-tiny",
    crop: Crop = None,
    out: Annotated[str | None, typer.Option(help="Save the photo with boxes, landmarks and answers.")] = None,
    json: AsJson = False,
) -> None:
    """Ask about every face in a photo, the most prominent first."""
    check_photo(image)
    if out:
        from facemllm.cli.picture import check_destination, save_picture

        check_destination(out, image)
    answers = load_model(model).ask(image, questions, crop=crop, faces="all")
    if out:
        save_picture(image, answers, out)
    if json:
        from facemllm.model.answers import face_to_dict

        faces = [
            {
                "face": None if of_face[0].face is None else face_to_dict(of_face[0].face),
                "answers": [{k: v for k, v in answer.to_dict().items() if k != "face"} for answer in of_face],
            }
            for of_face in answers
        ]
        print_json({"image": image, "model": model, "faces": faces})
        return
    for number, of_face in enumerate(answers, start=1):
        if len(answers) > 1:
            x1, y1, x2, y2 = (round(v) for v in of_face[0].face.box)
            print(f"face {number} of {len(answers)} at x {x1}-{x2}, y {y1}-{y2}")
        for answer in of_face:
            print(f"{answer.question}\n  {answer.text}")
    if out:
        print(f"saved {out}")
