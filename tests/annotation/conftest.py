"""Photos with one real face each, and a server that fails on purpose, in a process of its own."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

HERE = Path(__file__).parent


class Running:
    """A server process."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, str(HERE / "faulty_server.py"), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def get(self, path: str):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=10) as reply:
            return json.load(reply)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def serve() -> Iterator:
    """Start servers with options, and stop them in the end."""
    started: list[Running] = []

    def start(*arguments: str) -> Running:
        started.append(Running(*arguments))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def make_photos(folder: Path, portrait: str, count: int, *, spoil: bool = True) -> dict[str, str]:
    """Write photos of one face in many lights; some hold no face, some are broken.

    Returns:
        By file name, the reason it must be rejected for, or "" for a photo that can be annotated.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = Image.open(portrait).convert("RGB")
    face = whole.crop((126, 8, 336, 218)).resize((128, 128))
    expected = {}
    for index in range(count):
        name = f"{index % 7}/{index:05d}.jpg"
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if spoil and index % 25 == 7:
            path.write_bytes(b"not a picture")
            expected[name] = "unreadable"
        elif spoil and index % 25 == 11:
            Image.new("RGB", (128, 128), (index % 255, 90, 40)).save(path)
            expected[name] = "no_face"
        elif spoil and index % 25 == 19:
            face.resize((32, 32)).save(path)
            expected[name] = "too_small"
        else:
            light = ImageEnhance.Brightness(face).enhance(0.75 + 0.5 * (index % 97) / 97)
            light.putpixel((0, 0), (index % 256, index // 256, 0))
            light.save(path, quality=95)
            expected[name] = ""
    return expected


@pytest.fixture
def photos(tmp_path, portrait):
    """Return a function that makes a folder of photos."""

    def make(count: int, **options) -> tuple[Path, dict[str, str]]:
        return tmp_path / "photos", make_photos(tmp_path / "photos", portrait, count, **options)

    return make


def lines(out: Path, kind: str) -> list[dict]:
    """Return what stands in the shards of an output folder."""
    return [
        json.loads(line)
        for shard in sorted(out.glob(f"{kind}s-*.jsonl"))
        for line in shard.read_text(encoding="utf-8").splitlines()
    ]
