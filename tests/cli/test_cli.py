"""The command as a person runs it: what is printed, and the exit status."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facemllm.cli import main as cli
from facemllm.model import AutoFaceMLLM

BUILT_IN = Path(cli.__file__).parents[1] / "assets" / "facemllm-tiny" / "config.json"


def run(capsys, monkeypatch, *arguments: str) -> tuple[int, str, str]:
    """Run the command in this process, which saves the seconds of importing torch."""
    monkeypatch.setattr(sys, "argv", ["facemllm", *arguments])
    try:
        cli.main()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def facemllm(capsys, monkeypatch):
    return lambda *arguments: run(capsys, monkeypatch, *map(str, arguments))


def test_the_command_is_installed():
    done = subprocess.run(
        [sys.executable, "-m", "facemllm.cli.main", "--help"], capture_output=True, text=True, check=True
    )
    assert "ask" in done.stdout
    assert "evaluate" in done.stdout


def test_info_says_why_a_backend_would_not_run(facemllm):
    status, out, _ = facemllm("info", "--json")
    report = json.loads(out)
    assert status == 0
    assert report["attention_backends"]["eager"] == []
    assert report["attention_backends"]["xformers"], "xformers needs a GPU, so there is a reason here"
    assert report["libraries"]["torch"]
    assert "dlib-face" in report["parts"]["encoder"]


def test_ask_as_json(facemllm, portrait):
    status, out, _ = facemllm("ask", portrait, "How old is this person?", "What is the head pose?", "--json")
    report = json.loads(out)
    assert status == 0
    assert [a["question"] for a in report["faces"][0]["answers"]] == [
        "How old is this person?",
        "What is the head pose?",
    ]
    assert len(report["faces"][0]["face"]["landmarks"]) == 5


def test_every_face_of_a_photo_is_answered_for(facemllm, portrait, tmp_path):
    one = Image.open(portrait).convert("RGB")
    both = Image.new("RGB", (1024, 512))
    both.paste(one, (0, 0))
    both.paste(one.resize((400, 400)), (540, 60))
    both.save(tmp_path / "both.jpg")
    status, out, _ = facemllm(
        "ask", tmp_path / "both.jpg", "How old is this person?", "--out", tmp_path / "drawn.png"
    )
    assert status == 0
    assert "face 1 of 2" in out
    assert "face 2 of 2" in out
    assert Image.open(tmp_path / "drawn.png").width == 1024


@pytest.mark.parametrize("name", ["photo.png", "folder", "answers.gif", "noending"])
def test_the_photo_itself_is_never_written_over(facemllm, portrait, tmp_path, name):
    photo = tmp_path / "photo.png"
    Image.open(portrait).convert("RGB").save(photo)
    (tmp_path / "folder").mkdir()
    before = photo.read_bytes()
    status, _, err = facemllm("ask", photo, "How old is this person?", "--out", tmp_path / name)
    assert status == 2
    assert "cannot save the picture there" in err
    assert photo.read_bytes() == before


def test_demo_saves_a_picture_with_something_drawn_on_it(facemllm, portrait, tmp_path):
    status, out, _ = facemllm("demo", "--out", tmp_path / "demo.png")
    assert status == 0
    assert "How old is this person?" in out
    assert "Describe this face." in out
    drawn, photo = (np.asarray(Image.open(p).convert("RGB"), int) for p in (tmp_path / "demo.png", portrait))
    photo = np.asarray(Image.open(portrait).resize((640, 640)), int) if drawn.shape[1] == 640 else photo
    assert (np.abs(drawn[: photo.shape[0]] - photo).max(axis=2) > 60).sum() > 500, (
        "box and landmarks are there"
    )
    assert drawn.shape[0] > photo.shape[0], "answers stand below"


def bad_files(folder: Path) -> dict[str, Path]:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0" + b"0" * 300)
    (folder / "text.png").write_text("not a picture")
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("RGB", (300, 200), "green").save(folder / "green.png")
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    return {path.stem: path for path in folder.iterdir()} | {
        "missing": folder / "missing.jpg",
        "folder": folder,
    }


@pytest.mark.parametrize("kind", ["broken", "text", "dot", "green", "huge", "missing", "folder"])
def test_a_bad_picture_ends_with_four_parts_and_status_2(facemllm, tmp_path, kind):
    status, out, err = facemllm("ask", bad_files(tmp_path)[kind], "How old is this person?")
    assert status == 2
    assert out == ""
    for part in ("error:", "given:", "expected:", "do:"):
        assert part in err
    assert "Traceback" not in err


@pytest.mark.parametrize("kind", ["cmyk", "grey16", "animated", "palette", "rotated"])
def test_an_unusual_picture_is_answered_for(facemllm, portrait, tmp_path, kind):
    photo = Image.open(portrait).convert("RGB")
    path = (
        tmp_path
        / {"cmyk": "a.jpg", "grey16": "a.png", "animated": "a.gif", "palette": "a.png", "rotated": "a.jpg"}[
            kind
        ]
    )
    if kind == "cmyk":
        photo.convert("CMYK").save(path)
    elif kind == "grey16":
        Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(path)
    elif kind == "animated":
        photo.save(path, save_all=True, append_images=[photo.rotate(90)])
    elif kind == "palette":
        photo.convert("P").save(path)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        photo.rotate(90, expand=True).save(path, exif=exif)
    status, out, _ = facemllm("ask", path, "How old is this person?", "--json")
    assert status == 0
    x1, y1, x2, y2 = json.loads(out)["faces"][0]["face"]["box"]
    assert (x1 + x2) / 2 == pytest.approx(226, abs=15)
    assert (y1 + y2) / 2 == pytest.approx(118, abs=15)


def test_unknown_model_and_option_end_with_status_2(facemllm, portrait):
    status, _, err = facemllm("ask", portrait, "?", "--model", "./no-such-folder")
    assert status == 2
    assert "cannot load a model" in err
    assert facemllm("ask")[0] == 2


@pytest.mark.skipif(not BUILT_IN.is_file(), reason="the built-in model is not in this checkout")
def test_the_built_in_model_knows_what_it_does_not_know(portrait):
    model = AutoFaceMLLM.from_pretrained("facemllm-tiny")
    unknown = [
        "What is the capital of Peru?",
        "What is this person's bank balance?",
        "Which car does she drive?",
    ]
    assert [answer.known for answer in model.ask(portrait, unknown)] == [False] * 3
    assert model.ask(portrait, "How old is this person?").known


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("nosuch",), "No such command"),
        (("ask",), "Missing argument"),
        (("ask", "x.jpg", "Old?", "--nope"), "No such option"),
        (("evaluate", "--limit", "many"), "--limit"),
    ],
)
def test_a_command_line_that_is_not_understood_has_four_parts_too(facemllm, arguments, problem):
    status, out, err = facemllm(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: the command line is not understood\n")
    assert problem in err
    assert "expected: facemllm" in err
    assert "--help" in err


def test_the_version_is_said(facemllm):
    from facemllm import __version__

    assert facemllm("--version") == (0, f"{__version__}\n", "")
    assert facemllm()[0] == 2
