"""Folders and files as strangers have them: counted and named, or refused in four parts; no traceback."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from facemllm.cli.main import main

HEADER = "file,age,gender,race,service_test\n"
ROW = "train/1.jpg,20-29,Male,White,True\n"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command as a shell would, and return status, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["facemllm", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        if status:
            assert status == 2
            assert all(part in err for part in ("error: ", "  given:    ", "  expected: ", "  do:       ")), (
                err
            )
        return status, out, err

    return run


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    return path


@pytest.fixture
def fairface(tmp_path, photo):
    """A FairFace with the given label file, text or bytes, and one picture."""

    def make(labels, *names):
        root = tmp_path / "fairface"
        for name in names or ("train/1.jpg",):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(photo.read_bytes())
        data = labels if isinstance(labels, bytes) else labels.encode()
        (root / "fairface_label_train.csv").write_bytes(data)
        return root

    return make


def questions(run, dataset, root, out, *more):
    return run("questions", "--dataset", dataset, "--root", root, "--out", out / "q.jsonl", *more)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("", "lacks columns"),
        (HEADER, "has no usable sample"),
        ((HEADER + ROW).encode("utf-16"), "lacks columns"),
        ((HEADER + ROW).replace(",", ";"), "lacks columns"),
        (HEADER + ROW.replace("Male", "Ma\0le"), "unknown gender"),
        (HEADER.encode() + ROW.replace("Male", "Mäle").encode("latin-1"), "unknown gender"),
        (HEADER + ROW.replace("1.jpg", "9.jpg"), "image not found"),
        (HEADER + ROW.replace("1.jpg", "9" * 5000), "image not found"),
        (HEADER + ROW.replace("1.jpg", "1\0.jpg"), "image not found"),
        (HEADER + "train/1.jpg," + "x" * 200_000 + ",Male,White,True\n", "wrong number of fields"),
        (HEADER + '"' + ROW * 3000, "lines 2 to"),
    ],
)  # fmt: skip
def test_a_label_file_of_no_use_is_refused(run, fairface, tmp_path, labels, said):
    root = fairface(labels)
    for command in ("questions", "stats"):
        status, _, err = run(
            command, "--dataset", "fairface", "--root", root, "--out", tmp_path / command / "out"
        )
        assert status == 2
        assert said in err
    assert not (tmp_path / "questions" / "out").exists()


@pytest.mark.parametrize("name", ["train/1.jpg", "train/ä ö 漢字.jpg"])
def test_byte_order_marks_line_ends_and_names_of_all_scripts_are_read(run, fairface, tmp_path, name):
    rows = (HEADER + ROW.replace("train/1.jpg", name)).replace("\n", "\r\n")
    root = fairface(b"\xef\xbb\xbf" + rows.encode(), name)
    status, out, _ = questions(run, "fairface", root, tmp_path, "--strict")
    assert (status, "skipped no records" in out) == (0, True)
    assert json.loads((tmp_path / "q.jsonl").read_text().splitlines()[0])["id"] == name


def test_after_an_endless_field_reading_goes_on(run, fairface, tmp_path):
    root = fairface(HEADER + "train/1.jpg," + "x" * 200_000 + ",Male,White,True\n" + ROW)
    status, out, _ = questions(run, "fairface", root, tmp_path)
    assert status == 0
    assert "about 1 faces" in out
    assert "skipped 1 record: 1 x wrong number of fields" in out


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_what_is_named_like_a_picture_and_is_none_is_counted(run, photo, tmp_path):
    root = tmp_path / "utkface"
    root.mkdir()
    names = [f"{age}_0_0_20170109150557{age:03d}.jpg" for age in range(5)]
    (root / names[0]).write_bytes(photo.read_bytes())
    os.mkfifo(root / names[1])  # reading it would never end
    (root / names[2]).mkdir()
    (root / names[3]).symlink_to(root / "nowhere")
    (root / names[4]).symlink_to(root / names[4])
    status, out, _ = questions(run, "utkface", root, tmp_path)
    assert status == 0
    assert "about 1 faces" in out
    assert "skipped 4 records: 4 x image cannot be read" in out
    status, out, _ = run("leaks", root)
    assert "1 pictures" in out


@pytest.mark.parametrize("attributes", ["²\nSmiling Male\n1.jpg 1 1\n", "1\nSmiling Smiling\n1.jpg 1 -1\n"])
def test_odd_digits_and_names_twice_in_celeba(run, photo, tmp_path, attributes):
    (tmp_path / "img_align_celeba").mkdir()
    (tmp_path / "img_align_celeba/1.jpg").write_bytes(photo.read_bytes())
    (tmp_path / "list_attr_celeba.txt").write_text(attributes)
    (tmp_path / "list_eval_partition.txt").write_text("1.jpg 0\n")
    status, _, err = questions(run, "celeba", tmp_path, tmp_path)
    assert status == 2
    assert "does not begin with attribute names" in err


def test_boxes_that_are_none_and_settings_that_are_no_text(run, photo, tmp_path):
    root = tmp_path / "own"
    root.mkdir()
    (root / "a.jpg").write_bytes(photo.read_bytes())
    (root / "labels.csv").write_text(
        "image,age,x1,y1,x2,y2\na.jpg,3,9,9,1,1\na.jpg,3,nan,1,2,3\na.jpg,3,1,1,2,2\n"
    )
    status, out, _ = questions(run, "csv", root, tmp_path)
    assert (status, "2 x box must be left, top, right, bottom" in out) == (0, True)
    (root / "facemllm.yaml").write_bytes(b"\xff\xfe\0")
    status, _, err = questions(run, "csv", root, tmp_path)
    assert (status, "configuration is not YAML" in err) == (2, True)


def test_data_that_is_not_there_is_told_by_the_commands_own_option(run, tmp_path):
    status, _, err = run("train", "tiny", "--data", tmp_path / "nope", "--out", tmp_path / "out")
    assert status == 2
    assert "--data" in err.partition("  do:  ")[2]


def test_results_that_cannot_be_written(run, fairface, photo, tmp_path):
    root = fairface(HEADER + ROW)
    for out in (tmp_path, photo / "below.jsonl", ""):
        assert run("questions", "--dataset", "fairface", "--root", root, "--out", out)[0] == 2
    for command in (["stats"], ["export", "--format", "llava"]):
        status, _, err = run(*command, "--dataset", "fairface", "--root", root, "--out", photo)
        assert (status, str(photo) in err) == (2, True)
    assert run("leaks", root, "--out", tmp_path)[0] == 2


def test_questions_without_answers_alone_are_remarked_upon(run, photo, tmp_path):
    person = tmp_path / "lfw/Ada_Byron"
    person.mkdir(parents=True)
    (person / "Ada_Byron_0001.jpg").write_bytes(photo.read_bytes())
    (tmp_path / "lfw/female_names.txt").write_text("Ada_Byron_0001.jpg\n")
    _, _, err = questions(run, "lfw", tmp_path / "lfw", tmp_path)
    assert "only questions without an answer" in err
    _, _, err = questions(run, "lfw", tmp_path / "lfw", tmp_path, "--task", "gender")
    assert err == ""


def test_statistics_count_only_the_pictures_they_drew(run, fairface, tmp_path):
    pytest.importorskip("matplotlib", reason="needs facemllm[eval]")
    root, out = fairface(HEADER + ROW), tmp_path / "stats"
    out.mkdir()
    (out / "of another run.png").write_bytes(b"")
    _, said, _ = run("stats", "--dataset", "fairface", "--root", root, "--out", out)
    assert f"{len(list(out.glob('*.png'))) - 1} pictures" in said


def test_the_checker_of_this_file_sees_a_traceback(run, monkeypatch, tmp_path):
    def broken(*arguments):
        raise RuntimeError("a bug")

    monkeypatch.setattr("facemllm.data.stream_dataset", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        questions(run, "fairface", tmp_path, tmp_path)
    done = subprocess.run([sys.executable, "-c", "raise OSError"], capture_output=True, text=True)
    assert "Traceback" in done.stderr
