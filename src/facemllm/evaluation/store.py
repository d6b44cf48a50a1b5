"""Answers on disk, one line a picture, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from pathlib import Path
from typing import Any, TypedDict

from facemllm.evaluation.packed import Packed, pack, unpack


class Said(TypedDict):
    """What a model said about one picture.

    ``answers`` maps questions to texts, ``chosen`` questions to the probability of each option, ``heads``
    head names to results. ``face`` says whether a face was
    found; None where the model does not tell. ``error`` says why the picture is of no use, or is None.
    ``picture`` is the digest of its file; None where it is not known.
    """

    answers: dict[str, str]
    chosen: dict[str, dict[str, float]]
    heads: dict[str, Any]
    face: bool | None
    error: str | None
    picture: str | None


_FIELDS = ("answers", "chosen", "heads", "face", "error", "picture")
_BLOCK = 2**16


def made(**fields: Any) -> Said:
    """Return what was said, with nothing where nothing is given.

    Example:
        >>> made(answers={"How old?": "34"})["error"] is None
        True
    """
    empty = Said(answers={}, chosen={}, heads={}, face=None, error=None, picture=None)
    return Said(**(empty | fields))  # type: ignore[typeddict-item]


class PredictionStore:
    """The file ``predictions.jsonl``, or memory only.

    Lines are found again by sample, by fingerprint of the model, and by question: another model's answers in
    the same file, or those to other questions, are never taken for this one's. What was said about a picture
    that has changed since is replaced, not kept beside.

    Processes that share the work write files of their own (``predictions.1.jsonl`` ...) and read all, until
    :meth:`unite` puts them into one.

    Args:
        path: The file, or None to keep nothing.
        dataset: Name of the dataset.
        model: Fingerprint of the model and of how it is asked.
        part: Number of the process that writes.

    Attributes:
        others: Dataset and fingerprint of each other run whose answers are in the files.

    Example:
        >>> store = PredictionStore(None, "utkface", "m1")
        >>> store.add("1.jpg", made(answers={"How old?": "34"}))
        >>> store.get("1.jpg")["answers"]
        {'How old?': '34'}
    """

    def __init__(self, path: Path | None, dataset: str, model: str, *, part: int = 0) -> None:
        self.path, self.dataset, self.model = path, dataset, model
        self.own = path if path is None or not part else path.with_suffix(f".{part}{path.suffix}")
        self.others: set[tuple[str, str]] = set()
        self._said: dict[str, tuple[Packed, ...]] = {}
        if self.own is not None and self.own.exists():
            _mend(self.own)
        for one in self._files():
            self._read(one)

    def get(self, sample: str) -> Said:
        """Return what is known of a sample; nothing at first."""
        packed = self._said.get(sample)
        return made() if packed is None else made(**dict(zip(_FIELDS, map(unpack, packed), strict=True)))

    def add(self, sample: str, said: Said) -> None:
        """Keep what was said, in memory and at the end of the file."""
        self.take(sample, said)
        if self.own is not None:
            line = {"dataset": self.dataset, "id": sample, "model": self.model, **said}
            self.own.parent.mkdir(parents=True, exist_ok=True)
            with self.own.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def take(self, sample: str, said: Said) -> None:
        """Keep what was said in memory only."""
        known = self.get(sample)
        if None not in (known["picture"], said["picture"]) and known["picture"] != said["picture"]:
            known = made()
        together = Said(
            answers=known["answers"] | said["answers"],
            chosen=known["chosen"] | said["chosen"],
            heads=known["heads"] | said["heads"],
            face=known["face"] if said["face"] is None else said["face"],
            error=said["error"],
            picture=said["picture"] or known["picture"],
        )
        self._said[sample] = tuple(pack(together[name]) for name in _FIELDS)  # type: ignore[literal-required]

    def unite(self) -> None:
        """Put the files of all processes into one; to be called when none of them writes any more."""
        assert self.path is not None
        parts = [path for path in self._files() if path != self.path]
        if parts:
            with self.path.open("ab") as file:
                for part in parts:
                    _mend(part)
                    with part.open("rb") as lines:
                        shutil.copyfileobj(lines, file)
        for part in parts:  # a line that is there twice says the same twice
            part.unlink()

    def _files(self) -> list[Path]:
        if self.path is None:
            return []
        first = [self.path] if self.path.exists() else []
        return first + sorted(self.path.parent.glob(f"{self.path.stem}.*{self.path.suffix}"))

    def _read(self, path: Path) -> None:
        with path.open("rb") as file:
            for text in file:  # line by line: the file may be larger than memory
                if text.endswith(b"\n"):
                    self._read_line(text)

    def _read_line(self, text: bytes) -> None:
        try:
            line = json.loads(text.decode("utf-8", errors="replace"))
            if (line["dataset"], line["model"]) == (self.dataset, self.model):
                said = made(
                    answers=dict(line["answers"]),
                    chosen=dict(line.get("chosen", {})),
                    heads=dict(line["heads"]),
                    face=line["face"],
                    error=line["error"],
                    picture=line.get("picture"),
                )
                self.take(line["id"], said)
            else:
                self.others.add((str(line["dataset"]), str(line["model"])))
        except (ValueError, KeyError, TypeError):
            return  # a damaged line is asked again


def _mend(path: Path) -> None:
    """Cut off a line that was being written when its process was killed."""
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        while end:
            start = max(0, end - _BLOCK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            end = start + found + 1
            if found >= 0:
                break
        file.truncate(end)


def digest(path: str) -> str | None:
    """Return the digest of a picture's file, or None for what is not a file by itself."""
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError):
        return None
    return hashlib.sha256(data).hexdigest()[:16]


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
