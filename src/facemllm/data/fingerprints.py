"""What two copies of a picture have in common after cropping, resizing, recompression and mirroring.

A fingerprint is a small grey thumbnail and, for the whole picture and for fourteen windows of it that a crop
may have left, the low frequencies of its cosine transform, scaled to unit length and so free of brightness
and contrast. A copy is near to one of the windows of its original; how near two pictures really are is then
measured by laying one over the other (:func:`overlap`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facemllm.core.errors import ImageError

Array = npt.NDArray[Any]

SIDE = 48
"""Side of a thumbnail in pixels."""

_STEPS = (0.0, 0.05, 0.1)
WINDOWS = np.array(
    [
        (0.0, 0.0, 1.0, 1.0),
        *((x, y, x + 0.9, y + 0.9) for x in _STEPS for y in _STEPS),
        *((0.0, 0.0, 0.9, 1.0), (0.1, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.9), (0.0, 0.1, 1.0, 1.0)),
        (0.1, 0.1, 0.9, 0.9),
    ],
    dtype=np.float32,
)
"""The windows of a picture that are fingerprinted, as left, top, right, bottom in shares of its sides."""

_LOW = 8  # frequencies kept along each axis
_FLAT = 1e-3  # spread of grey below which a picture has nothing to compare


@dataclass(frozen=True)
class Prints:
    """Fingerprints of n pictures.

    Attributes:
        names: Of the pictures [n].
        digests: SHA-256 of each file [n].
        thumbnails: Grey pictures [n, SIDE, SIDE], from 0 to 1.
        flat: Whether a picture shows nothing that could be compared [n].
        vectors: What the caller's own function made of each picture [n, D], or None.
        unreadable: Names of what could not be read, and why.
    """

    names: tuple[str, ...]
    digests: tuple[str, ...]
    thumbnails: Array
    flat: Array
    vectors: Array | None
    unreadable: dict[str, str]

    def __len__(self) -> int:
        return len(self.names)


def fingerprint(
    pictures: Iterable[tuple[str, str]], *, embed: Callable[[list[Any]], Array] | None = None, batch: int = 64
) -> Prints:
    """Read pictures and return their fingerprints.

    Args:
        pictures: Name and path (or reference) of each.
        embed: Turns a list of RGB pictures into vectors [n, D], for copies that pixels do not show.
        batch: Pictures given to ``embed`` at once.
    """
    from facemllm.processing.reading import load_image
    from facemllm.processing.references import is_reference, read_reference

    names, digests, thumbnails, vectors, waiting = [], [], [], [], []
    unreadable: dict[str, str] = {}
    for name, image in pictures:
        try:
            data = read_reference(image) if is_reference(image) else Path(image).read_bytes()
            picture = load_image(data)
        except (ImageError, OSError) as error:
            unreadable[name] = error.what if isinstance(error, ImageError) else "file cannot be opened"
            continue
        names.append(name)
        digests.append(hashlib.sha256(data).hexdigest())
        thumbnails.append(_thumbnail(picture))
        if embed is not None:
            waiting.append(picture)
            if len(waiting) == batch:
                vectors.append(np.asarray(embed(waiting), dtype=np.float32))
                waiting = []
    if embed is not None and waiting:
        vectors.append(np.asarray(embed(waiting), dtype=np.float32))
    grey = np.stack(thumbnails) if thumbnails else np.zeros((0, SIDE, SIDE), np.float32)
    return Prints(
        names=tuple(names),
        digests=tuple(digests),
        thumbnails=grey,
        flat=grey.std(axis=(1, 2)) < _FLAT,
        vectors=np.concatenate(vectors) if vectors else None,
        unreadable=unreadable,
    )


def descriptors(thumbnails: Array, windows: Array = WINDOWS) -> Array:
    """Return the low frequencies of every window of every thumbnail [n, V, 63]."""
    from scipy.fft import dctn

    found = np.empty((len(thumbnails), len(windows), _LOW * _LOW - 1), np.float32)
    rows, columns = np.meshgrid(np.arange(_LOW), np.arange(_LOW), indexing="ij")
    weight = np.sqrt(np.hypot(rows, columns)).reshape(-1)[1:]  # faint high frequencies tell more
    for start in range(0, len(thumbnails), 1024):
        part = thumbnails[start : start + 1024]
        for index, window in enumerate(windows):
            view = _cut(part, np.broadcast_to(window, (len(part), 4)), SIDE // 3)
            low = (
                dctn(view, axes=(1, 2), norm="ortho")[:, :_LOW, :_LOW].reshape(len(part), -1)[:, 1:] * weight
            )
            length = np.linalg.norm(low, axis=1, keepdims=True)
            found[start : start + 1024, index] = low / np.maximum(length, 1e-6)
    return found


def overlap(whole: Array, part: Array, windows: Array) -> Array:
    """Lay each part over the window of a whole where it fits best, and return how alike they are [n].

    The window is found by Gauss-Newton steps, coarse then fine; alike is the correlation of what is left of
    both without their coarsest and their finest detail, so that lighting and compression count for little.

    Args:
        whole: Thumbnails [n, SIDE, SIDE].
        part: Thumbnails [n, SIDE, SIDE].
        windows: Where in the whole to begin [n, 4].
    """
    import torch

    found = []
    for start in range(0, len(whole), 256):
        one, two = (
            torch.from_numpy(np.ascontiguousarray(x[start : start + 256]))[:, None] for x in (whole, part)
        )
        place = torch.from_numpy(np.ascontiguousarray(windows[start : start + 256]))
        for blur, steps in ((5, 6), (3, 5)):
            place = _fit(_smooth(one, blur), _smooth(two, blur), place, steps)
        cut = _sample(one, place, SIDE)
        pair = [_band(x) for x in (cut, two)]
        found.append((pair[0] * pair[1]).flatten(1).sum(1).numpy())
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def _thumbnail(picture: Any) -> Array:
    from PIL import Image

    grey = picture.convert("L")
    # Averaging leaves no trace of the size it began with; a small picture is enlarged smoothly.
    way = Image.Resampling.BOX if min(grey.size) >= SIDE else Image.Resampling.BICUBIC
    return np.asarray(grey.resize((SIDE, SIDE), way), np.float32) / 255


def _cut(thumbnails: Array, windows: Array, side: int) -> Array:
    """Return windows of thumbnails, made small by averaging [n, side, side]."""
    import torch
    from torch.nn.functional import avg_pool2d

    images = torch.from_numpy(np.ascontiguousarray(thumbnails))[:, None]
    cut = _sample(images, torch.from_numpy(np.array(windows)), SIDE)
    found: Array = avg_pool2d(cut, SIDE // side)[:, 0].numpy()
    return found


def _grid(side: int) -> Any:
    import torch

    steps = (torch.arange(side) + 0.5) / side
    return torch.meshgrid(steps, steps, indexing="ij")


def _sample(images: Any, windows: Any, side: int) -> Any:
    """Return windows of images [n, C, side, side] by bilinear interpolation."""
    import torch
    from torch.nn.functional import grid_sample

    down, right = _grid(side)
    x = windows[:, 0, None, None] + right * (windows[:, 2] - windows[:, 0])[:, None, None]
    y = windows[:, 1, None, None] + down * (windows[:, 3] - windows[:, 1])[:, None, None]
    grid = torch.stack([2 * x - 1, 2 * y - 1], dim=-1)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def _smooth(images: Any, width: int) -> Any:
    from torch.nn.functional import avg_pool2d, pad

    edge = width // 2
    return avg_pool2d(pad(images, (edge, edge, edge, edge), mode="replicate"), width, 1)


def _unit(images: Any) -> Any:
    images = images - images.mean(dim=(2, 3), keepdim=True)
    return images / images.flatten(1).norm(dim=1).clamp_min(1e-6)[:, None, None, None]


def _band(images: Any) -> Any:
    return _unit(_smooth(images, 3) - _smooth(images, 13))


def _fit(whole: Any, part: Any, windows: Any, steps: int) -> Any:
    """Move the sides of each window so that the whole's window looks like the part."""
    import torch

    side = SIDE // 2
    everything = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(len(part), 4)
    target = _unit(_sample(part, everything, side))
    across = torch.gradient(whole, dim=3)[0] * SIDE
    down = torch.gradient(whole, dim=2)[0] * SIDE
    stack = torch.cat([whole, across, down], dim=1)
    y, x = _grid(side)
    for _ in range(steps):
        now, right, below = _sample(stack, windows, side).split(1, dim=1)
        centred = now - now.mean(dim=(2, 3), keepdim=True)
        length = centred.flatten(1).norm(dim=1).clamp_min(1e-6)[:, None, None, None]
        rest = (target - centred / length).flatten(1)
        slopes = torch.cat([right * (1 - x), below * (1 - y), right * x, below * y], dim=1) / length
        slopes = (slopes - slopes.mean(dim=(2, 3), keepdim=True)).flatten(2)
        square = slopes @ slopes.transpose(1, 2)
        damping = 1e-3 * square.diagonal(dim1=1, dim2=2).mean(1) + 1e-9
        square = square + torch.eye(4) * damping[:, None, None]
        step = torch.linalg.solve(square, slopes @ rest[..., None])[..., 0]
        windows = (windows + step.clamp(-0.05, 0.05)).clamp(-0.02, 1.02)
    return windows


def pictures_below(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield name and path of every picture below a folder, in a fixed order."""
    from facemllm.data.readers.base import is_picture

    for path in sorted(folder.rglob("*")):
        if is_picture(path.name) and path.is_file():
            yield path.relative_to(folder).as_posix(), str(path)
