"""Pictures to learn from, made from facemllm's public-domain portrait: spectacles are drawn at the eyes."""

import random
from dataclasses import dataclass
from importlib.resources import files

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from facemllm import detect_faces
from facemllm.faces import Face
from facemllm.processing.image import load_image
from spectacles import KINDS

TRAINING_SHAPES, OTHER_SHAPES = ("round", "square"), ("oval", "half-rim")
_ZOOM = 4  # drawn larger and reduced, so that thin frames have soft edges

Box = tuple[float, float, float, float]
Colour = tuple[int, ...]


@dataclass(frozen=True)
class Picture:
    """A picture of a face, where the face is, and what is on its nose."""

    image: Image.Image
    box: Box
    kind: str


def portrait() -> tuple[Image.Image, Face]:
    """Return the portrait that comes with facemllm, and its face."""
    image = load_image(str(files("facemllm") / "assets" / "portrait.jpg"))
    return image, detect_faces(image)[0]


def wear(
    photo: Image.Image, face: Face, kind: str, rng: random.Random, shapes: tuple[str, ...]
) -> Image.Image:
    """Return the photo with spectacles of a kind drawn on a face; their look is drawn by ``rng``."""
    if kind == "none":
        return photo
    (left_x, left_y), (right_x, right_y) = face.landmarks[:2]
    apart, middle = right_x - left_x, ((left_x + right_x) / 2, (left_y + right_y) / 2)
    # On a layer of its own, level, and turned afterwards by the slope of the eyes.
    side = round(4 * apart) * _ZOOM
    layer = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(layer)
    unit, centre = apart * _ZOOM, side / 2
    width, height = rng.uniform(0.36, 0.44) * unit, rng.uniform(0.26, 0.36) * unit
    drop = rng.uniform(-0.03, 0.1) * unit
    shade = rng.randint(10, 70)
    frame = (shade, round(shade * rng.uniform(0.5, 1.2)), round(shade * rng.uniform(0.4, 1.2)), 255)
    glass = (*(rng.randint(0, 35) for _ in range(3)), rng.randint(205, 250))
    if kind == "clear":
        glass = (235, 240, 255, rng.randint(8, 35))
    line = max(2, round(rng.uniform(0.035, 0.075) * unit))
    shape = rng.choice(shapes)
    for eye in (centre - unit / 2, centre + unit / 2):
        lens = (eye - width, centre + drop - height, eye + width, centre + drop + height)
        _draw_lens(draw, lens, shape, glass, frame, line)
    inner = unit / 2 - width
    draw.line((centre - inner, centre + drop, centre + inner, centre + drop), fill=frame, width=line)
    for sign in (-1, 1):
        edge = centre + sign * (unit / 2 + width)
        draw.line(
            (edge, centre + drop, edge + sign * 0.4 * unit, centre - 0.05 * unit), fill=frame, width=line
        )
    slope = (right_y - left_y) / apart
    layer = layer.transform(layer.size, Image.Transform.AFFINE, (1, 0, 0, -slope, 1, slope * centre))
    layer = layer.resize((side // _ZOOM, side // _ZOOM), Image.Resampling.LANCZOS)
    worn = photo.copy()
    worn.paste(layer, tuple(round(value - layer.width / 2) for value in middle), layer)
    return worn


def _draw_lens(
    draw: ImageDraw.ImageDraw,
    lens: Box,
    shape: str,
    glass: tuple[int, ...],
    frame: tuple[int, ...],
    line: int,
) -> None:
    x1, y1, x2, y2 = lens
    if shape == "round":
        radius = min(x2 - x1, y2 - y1) / 2
        middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
        circle = (middle_x - radius, middle_y - radius, middle_x + radius, middle_y + radius)
        draw.ellipse(circle, fill=glass, outline=frame, width=line)
        for outer, rim in ((x1, circle[0]), (x2, circle[2])):
            draw.line((outer, middle_y, rim, middle_y), fill=frame, width=line)
    elif shape == "square":
        draw.rounded_rectangle(lens, radius=(y2 - y1) / 5, fill=glass, outline=frame, width=line)
    elif shape == "oval":
        draw.ellipse(lens, fill=glass, outline=frame, width=line)
    else:
        draw.rounded_rectangle(lens, radius=(y2 - y1) / 3, fill=glass)
        draw.line((x1, y1, x2, y1), fill=frame, width=round(1.6 * line))


def make_pictures(each: int, *, seed: int, shapes: tuple[str, ...] = TRAINING_SHAPES) -> list[Picture]:
    """Return ``each`` pictures of every kind, all different in light, colour, sharpness, side and frame."""
    photo, face = portrait()
    rng = random.Random(seed)
    return [
        _vary(wear(photo, face, kind, rng, shapes), face, kind, rng) for _ in range(each) for kind in KINDS
    ]


def _vary(photo: Image.Image, face: Face, kind: str, rng: random.Random) -> Picture:
    x1, y1, x2, y2 = face.box
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    image = photo.rotate(rng.uniform(-8, 8), resample=Image.Resampling.BICUBIC, center=middle)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = change(image).enhance(rng.uniform(0.7, 1.3))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.6)))
    # Detectors put boxes not quite where they put them before.
    side, shift = (x2 - x1) * rng.uniform(0.95, 1.05), 0.04 * (x2 - x1)
    x, y = middle[0] + rng.uniform(-shift, shift), middle[1] + rng.uniform(-shift, shift)
    tall = side * (y2 - y1) / (x2 - x1)
    if rng.random() < 0.5:
        image, x = ImageOps.mirror(image), image.width - x
    return Picture(image, (x - side / 2, y - tall / 2, x + side / 2, y + tall / 2), kind)
