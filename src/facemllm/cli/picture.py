"""A photo with its faces and answers drawn on it, for people who would rather look than read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from facemllm.core.errors import ImageError
from facemllm.model.answers import Answer
from facemllm.processing.image import load_image

COLOURS = ("#ffb000", "#648fff", "#dc267f", "#785ef0", "#fe6100")  # told apart by colour-blind people too
MIN_WIDTH = 640
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def check_destination(out: str, photo: str) -> None:
    """Refuse a place for the picture before anything is asked.

    Raises:
        ImageError: If it is the photo itself, a folder, or of another ending than a picture's.
    """
    path = Path(out)
    same = path.exists() and Path(photo).exists() and path.samefile(photo)
    if same or path.is_dir() or path.suffix.lower() not in ENDINGS:
        why = "the photo itself" if same else "a folder" if path.is_dir() else f"ending {path.suffix!r}"
        raise ImageError(
            "cannot save the picture there",
            given=f"{out} ({why})",
            expected=f"a new file ending in {', '.join(ENDINGS)}",
            do="choose another name",
        )


def save_picture(image: Any, answers: Sequence[Sequence[Answer]], path: str | Path) -> None:
    """Draw boxes and landmarks of all faces, with the answers below, and save the picture.

    Args:
        image: The photo that was asked about.
        answers: For each face, its answers.
        path: Where to save; the ending says how.

    Raises:
        ImageError: If the picture cannot be written there.
    """
    photo = load_image(image)
    zoom = max(1.0, MIN_WIDTH / photo.width)
    photo = photo.resize((round(photo.width * zoom), round(photo.height * zoom)), Image.Resampling.LANCZOS)
    size = max(14, photo.width // 42)
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(photo)
    lines: list[tuple[str, str]] = []
    for number, of_face in enumerate(answers, start=1):
        colour, face = COLOURS[(number - 1) % len(COLOURS)], of_face[0].face
        if face is not None:
            box = [value * zoom for value in face.box]
            draw.rectangle(box, outline=colour, width=max(2, size // 6))
            for x, y in face.landmarks * zoom:
                radius = max(2, size // 5)
                draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
            if len(answers) > 1:
                draw.text((box[0] + 4, box[1] + 2), str(number), fill=colour, font=font)
        prefix = f"{number}  " if len(answers) > 1 else ""
        lines += [
            (line, colour if new else "#dddddd")
            for answer in of_face
            for line, new in _wrapped(
                f"{prefix}{answer.question}", answer.text, draw, font, photo.width - 2 * size
            )
        ]
    step = round(size * 1.45)
    sheet = Image.new("RGB", (photo.width, photo.height + step * len(lines) + size), "#202124")
    sheet.paste(photo)
    draw = ImageDraw.Draw(sheet)
    for row, (text, colour) in enumerate(lines):
        draw.text((size, photo.height + size // 2 + row * step), text, fill=colour, font=font)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except (OSError, ValueError) as error:
        raise ImageError(
            "cannot save the picture",
            given=f"{path} ({error})",
            expected="a writable path ending in .png or .jpg",
            do="choose another",
        ) from None


def _wrapped(question: str, answer: str, draw: Any, font: Any, width: int) -> list[tuple[str, bool]]:
    """Break a question and its answer into lines that fit; answers are marked."""
    lines: list[tuple[str, bool]] = []
    for text, mark in ((question, False), (f"    {answer}", True)):
        line = ""
        for word in text.split(" "):
            if line.strip() and draw.textlength(f"{line} {word}", font=font) > width:
                lines.append((line, mark))
                line = f"    {word}"
            else:
                line = f"{line} {word}" if line else word
        lines.append((line, mark))
    return lines
