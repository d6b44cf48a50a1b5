"""Two small repairs of an exported ONNX file, on its bytes, so that the package ``onnx`` is not needed.

An ONNX file is a protobuf message: fields one after another, each with a number, a kind and a value.
"""

from __future__ import annotations

from collections.abc import Iterator

_GRAPH, _NAME_OF_WEIGHTS, _WEIGHTS, _INPUT = 7, 8, 5, 11  # field numbers of ONNX's messages
_NAME_OF_INPUT = 1


def free_sizes(model: bytes) -> bytes:
    """Return an ONNX model that takes pictures of any number and size.

    CenterFace was exported for ten pictures of 32x32, though it is fully convolutional. In protobuf a fixed
    dimension is the bytes ``0a 02 08 <number>``; ``0a 02 12 00`` is one with an empty name, which means any
    number. Both are as long, so the few dimensions of the input and the outputs are replaced in place. A
    model that has free sizes already is returned as it is.
    """
    data = bytearray(model)
    outputs = dict.fromkeys(("537", "538", "539", "540"), (10, 8, 8))
    for name, axes in {"input.1": (10, 32, 32), **outputs}.items():
        # Its last mention is where the graph lists its inputs and outputs, after all nodes and weights.
        position = data.rfind(bytes((0x0A, len(name))) + name.encode())
        for number in axes if position >= 0 else ():
            fixed = bytes((0x0A, 2, 0x08, number))
            found = data.find(fixed, position, position + 64)
            if found >= 0:
                data[found : found + 4] = b"\x0a\x02\x12\x00"
    return bytes(data)


def constant_weights(model: bytes) -> bytes:
    """Return an ONNX model whose weights are constants, which lets onnxruntime lay them out for speed.

    Old exporters list every weight among the graph's inputs too, so that a caller might replace it. The
    runtime must then not touch them, and CenterFace takes twice as long. Here the inputs that are weights are
    left out. Results differ by rounding only (1e-5 of a map's value).

    Source: ONNX IR version 4, which made the listing optional.
    """
    out = bytearray()
    for number, body, whole in _fields(model):
        if number != _GRAPH:
            out += whole
            continue
        weights = {_first(tensor, _NAME_OF_WEIGHTS) for kind, tensor, _ in _fields(body) if kind == _WEIGHTS}
        graph = b"".join(
            part
            for kind, value, part in _fields(body)
            if kind != _INPUT or _first(value, _NAME_OF_INPUT) not in weights
        )
        out += _varint(_GRAPH << 3 | 2) + _varint(len(graph)) + graph
    return bytes(out)


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield number, value and whole bytes of each field; the value of a number is left empty."""
    position = 0
    while position < len(message):
        start = position
        tag, position = _number(message, position)
        body = b""
        if tag & 7 == 2:
            length, position = _number(message, position)
            body = message[position : position + length]
            position += length
        elif tag & 7 == 0:
            _, position = _number(message, position)
        else:
            position += {1: 8, 5: 4}[tag & 7]
        yield tag >> 3, body, message[start:position]


def _first(message: bytes, number: int) -> bytes:
    return next((body for kind, body, _ in _fields(message) if kind == number), b"")


def _number(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
