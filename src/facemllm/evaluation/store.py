"""Answers on disk, one line a picture, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any, TypedDict


class Said(TypedDict):
    """What a model said about one picture.

    ``answers`` maps questions to texts, ``chosen`` questions to the probability of each option, ``heads``
    head names to results. ``face`` says whether a face was
    found; None where the model does not tell. ``error`` says why the picture is of no use, or is None.
    """

    answers: dict[str, str]
    chosen: dict[str, dict[str, float]]
    heads: dict[str, Any]
    face: bool | None
    error: str | None


class PredictionStore:
    """The file ``predictions.jsonl``, or memory only.

    Lines are found again by sample, by fingerprint of the model, and by question: another model's answers in
    the same file, or those to other questions, are never taken for this one's.

    Args:
        path: The file, or None to keep nothing.
        dataset: Name of the dataset.
        model: Fingerprint of the model and of how it is asked.

    Example:
        >>> store = PredictionStore(None, "utkface", "m1")
        >>> store.add("1.jpg", Said(answers={"How old?": "34"}, chosen={}, heads={}, face=True, error=None))
        >>> store.get("1.jpg")["answers"]
        {'How old?': '34'}
    """

    def __init__(self, path: Path | None, dataset: str, model: str) -> None:
        self.path, self.dataset, self.model = path, dataset, model
        self._said: dict[str, Said] = {}
        if path is not None and path.exists():
            self._read(path)

    def get(self, sample: str) -> Said:
        """Return what is known of a sample; nothing at first."""
        return self._said.get(sample, Said(answers={}, chosen={}, heads={}, face=None, error=None))

    def add(self, sample: str, said: Said) -> None:
        """Keep what was said, in memory and at the end of the file."""
        self._merge(sample, said)
        if self.path is not None:
            line = {"dataset": self.dataset, "id": sample, "model": self.model, **said}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _merge(self, sample: str, said: Said) -> None:
        known = self.get(sample)
        self._said[sample] = Said(
            answers=known["answers"] | said["answers"],
            chosen=known["chosen"] | said["chosen"],
            heads=known["heads"] | said["heads"],
            face=known["face"] if said["face"] is None else said["face"],
            error=said["error"],
        )

    def _read(self, path: Path) -> None:
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):  # killed in the middle of a line
            path.write_bytes(whole)
        for text in whole.decode("utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
                if (line["dataset"], line["model"]) == (self.dataset, self.model):
                    said = Said(
                        answers=dict(line["answers"]),
                        chosen=dict(line.get("chosen", {})),
                        heads=dict(line["heads"]),
                        face=line["face"],
                        error=line["error"],
                    )
                    self._merge(line["id"], said)
            except (ValueError, KeyError, TypeError):
                continue  # a damaged line is asked again


def fingerprint(model: Any, **how: Any) -> str:
    """Return what identifies a model's answers: its weights or its own ``fingerprint``, and how it is asked.

    An object with neither gets a new fingerprint every time, so its answers are never taken for another's.

    Example:
        >>> import torch
        >>> one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        >>> fingerprint(one) == fingerprint(one), fingerprint(one) == fingerprint(other)
        (True, False)
    """
    digest = hashlib.sha256(json.dumps(how, sort_keys=True, default=str).encode())
    own = getattr(model, "fingerprint", None)
    if own is not None:
        digest.update(str(own() if callable(own) else own).encode())
    elif hasattr(model, "state_dict"):
        import torch

        for name, tensor in model.state_dict().items():
            values = tensor.detach().double() if tensor.numel() < 2**24 else tensor.detach().float()
            sums = [values.sum().item(), values.square().sum().item()] if tensor.numel() else []
            first = torch.flatten(values)[:4].tolist()
            digest.update(f"{name} {tuple(tensor.shape)} {sums} {first}".encode())
    else:
        digest.update(uuid.uuid4().bytes)
    return digest.hexdigest()[:16]
