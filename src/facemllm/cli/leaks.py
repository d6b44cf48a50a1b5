"""``facemllm leaks``: copies of pictures within a set, and between sets."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from facemllm.cli.options import AsJson, print_json
from facemllm.core.errors import DatasetError

_SET = (
    "a folder of pictures, a .jsonl file of records, or NAME=ROOT for a dataset (NAME=ROOT:SPLIT for a split)"
)
_SHOWN = 20


def leaks(
    a: Annotated[str, typer.Argument(help=f"A set of pictures: {_SET}.", metavar="A")],
    b: Annotated[
        str | None, typer.Argument(help="Another set; without it, A is searched in itself.", metavar="B")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="File for all pairs found.", metavar="FILE.json")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Least correlation of perceptual copies, from 0 to 1.")
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option(
            help="Also compare by this trained encoder (dlib-face), or that of a model (facemllm-tiny).",
            metavar="NAME",
        ),
    ] = None,
    embedding_threshold: Annotated[
        float | None, typer.Option(help="Least cosine of embeddings, their mean taken away.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Find pictures of A that are also in B: exact, cropped, resized, recompressed or mirrored copies."""
    from facemllm.data.fingerprints import fingerprint
    from facemllm.data.leaks import EMBEDDING_THRESHOLD, THRESHOLD, find_leaks

    embed = embedder(embedding) if embedding else None
    first = fingerprint(pictures_of(a), embed=embed)
    second = None if b is None else fingerprint(pictures_of(b), embed=embed)
    limit = THRESHOLD if threshold is None else threshold
    alike = EMBEDDING_THRESHOLD if embedding_threshold is None else embedding_threshold
    report = find_leaks(first, second, threshold=limit, embedding_threshold=alike)
    found = {"a": a, "b": b, **report.to_dict()}
    if out is not None:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(jsonlib.dumps(found, ensure_ascii=False, indent=1) + "\n")
    if json:
        print_json(found)
        return
    sizes = f"{len(first):,} pictures" + ("" if second is None else f" and {len(second):,}")
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.counts.items()) or "none"
    typer.echo(f"{sizes}: {kinds}")
    for leak in report.leaks[:_SHOWN]:
        typer.echo(
            f"  {leak.score:.3f} {leak.kind}{' mirrored' if leak.mirrored else ''}: {leak.a} | {leak.b}"
        )
    if len(report.leaks) > _SHOWN:
        typer.echo(f"  and {len(report.leaks) - _SHOWN} more")
    if report.unreadable:
        typer.echo(f"{len(report.unreadable)} pictures could not be read")
    if out is not None:
        typer.echo(f"saved {out}")


def pictures_of(spec: str) -> Iterator[tuple[str, str]]:
    """Yield name and path of every picture of a set.

    Raises:
        DatasetError: If there is no such set.
    """
    from facemllm.data import READERS, read_jsonl, stream_dataset
    from facemllm.data.fingerprints import pictures_below

    name, found, rest = spec.partition("=")
    if Path(spec).is_dir():
        yield from pictures_below(Path(spec))
    elif spec.endswith(".jsonl"):
        yield from ((sample.id, sample.image) for sample in read_jsonl(spec))
    elif found and name in READERS:
        root, colon, split = (
            rest.rpartition(":") if ":" in rest and not Path(rest).exists() else (rest, "", "")
        )
        stream = stream_dataset(name, root, split if colon else "all")
        yield from ((sample.id, sample.image) for sample in stream)
    else:
        raise DatasetError(
            "cannot find a set of pictures", given=repr(spec), expected=_SET, do="check the path or the name"
        )


def embedder(name: str) -> Any:
    """Return a function from pictures to their embeddings [n, D]: the mean token of a trained encoder.

    Args:
        name: Of an encoder, loaded with its trained weights; or of a model, or its folder, for its encoder.
    """
    import numpy as np
    import torch

    encoder = _encoder(name).eval()
    mean, std = (torch.tensor(value)[:, None, None] for value in (encoder.mean, encoder.std))

    def embed(pictures: list[Any]) -> Any:
        side = encoder.image_size
        arrays = [np.asarray(picture.resize((side, side)), np.float32) / 255 for picture in pictures]
        pixels = (torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) - mean) / std
        with torch.inference_mode():
            return encoder(pixels).mean(dim=1).float().numpy()

    return embed


def _encoder(name: str) -> Any:
    import inspect

    from facemllm.encoders import ENCODERS, create_encoder
    from facemllm.model import AutoFaceMLLM

    if name in AutoFaceMLLM.built_in() or (Path(name) / "config.json").is_file():
        return AutoFaceMLLM.from_pretrained(name).encoder
    family = name if name in ENCODERS else name.partition("/")[0]
    # Some families begin untrained unless told otherwise, and nothing can be seen through random weights.
    known = family in ENCODERS and "pretrained" in inspect.signature(ENCODERS.get(family)).parameters
    return create_encoder(name, **({"pretrained": True} if known else {}))
