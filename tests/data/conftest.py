"""Tiny datasets in the layouts of the real ones; readers never open the pictures, so any bytes will do."""

import shutil
from pathlib import Path

import pytest

from facemllm.data import FaceSample
from facemllm.data.vocabularies import CELEBA_ATTRIBUTES, EXPRESSIONS


def picture(path: Path, content: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"picture " + (content or path.name).encode())


def make_fairface(root: Path) -> None:
    rows = {"train": ["20-29,Male,East Asian,True", "more than 70,Female,Latino_Hispanic,False"]}
    rows["val"] = ["0-2,Female,White,True"]
    for split, lines in rows.items():
        root.mkdir(exist_ok=True)
        labels = [f"{split}/{number}.jpg,{line}" for number, line in enumerate(lines, 1)]
        (root / f"fairface_label_{split}.csv").write_text(
            "\n".join(["file,age,gender,race,service_test", *labels, ""])
        )
        for number in range(1, len(lines) + 1):
            picture(root / split / f"{number}.jpg")


def make_utkface(root: Path) -> None:
    for number in range(100):
        picture(root / f"{number}_{number % 2}_{number % 5}_2017010{number:013d}.jpg.chip.jpg")
    picture(root / "101_1_2_20170105174739309.jpg")


def make_fer2013(root: Path) -> None:
    for split in ("train", "validation", "test"):
        for expression in EXPRESSIONS:
            picture(root / split / expression / f"{split}_{expression}.jpg")


def make_pointing04(root: Path) -> None:
    for person in range(1, 13):
        for number, angles in enumerate(("+0-90", "-30+15", "+0+0")):
            stem = root / f"Person{person:02d}" / f"person{person:02d}1{number:02d}{angles}"
            picture(Path(f"{stem}.jpg"))
            Path(f"{stem}.txt").write_text(f"{stem.name}.jpg\n\nFace\n100\n80\n40\n20\n")


def make_celeba(root: Path) -> None:
    names = CELEBA_ATTRIBUTES.codes
    rows = [
        f"00000{number}.jpg " + "  ".join("1" if name in {"Male", "Smiling"} else "-1" for name in names)
        for number in range(1, 5)
    ]
    root.mkdir()
    (root / "list_attr_celeba.txt").write_text("\n".join([str(len(rows)), " ".join(names) + " ", *rows, ""]))
    (root / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 0\n000003.jpg 1\n000004.jpg 2\n")
    (root / "identity_CelebA.txt").write_text("000001.jpg 2880\n")
    for number in range(1, 5):
        picture(root / "img_align_celeba" / f"00000{number}.jpg")


def make_lfw(root: Path) -> None:
    for person in range(40):
        for number in (1, 2):
            picture(root / f"Person_{person}" / f"Person_{person}_{number:04d}.jpg")
    (root / "male_names.txt").write_text("Person_0_0001.jpg\nPerson_1_0001.jpg\n")
    (root / "female_names.txt").write_text("Person_2_0001.jpg\n")


MAKERS = {
    "fairface": make_fairface,
    "utkface": make_utkface,
    "fer2013": make_fer2013,
    "pointing04": make_pointing04,
    "celeba": make_celeba,
    "lfw": make_lfw,
}


@pytest.fixture(params=sorted(MAKERS))
def any_dataset(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """Each dataset in turn: its name and root."""
    MAKERS[request.param](tmp_path / request.param)
    return request.param, tmp_path / request.param


@pytest.fixture
def make(tmp_path: Path):
    """Make a tiny dataset by name and return its root."""

    def build(name: str) -> Path:
        root = tmp_path / name
        shutil.rmtree(root, ignore_errors=True)
        MAKERS[name](root)
        return root

    return build


@pytest.fixture
def sample():
    """Make a sample from labels."""

    def build(dataset: str = "mine", **labels: object) -> FaceSample:
        return FaceSample(id="1", image="1.jpg", labels=labels, dataset=dataset, licence="own")

    return build
