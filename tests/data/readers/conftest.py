"""Every dataset in its exact format, small: readers never open the pictures, so any bytes will do."""

import json
import math
import tarfile
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from facemllm.data.readers.bp4d import FOLDS as BP4D_FOLDS
from facemllm.data.vocabularies import BP4D_UNITS, DISFA_UNITS


def picture(path: Path, content: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"picture " + (content or path.name).encode())


def lines(path: Path, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))


def append(path: Path, *rows: str) -> None:
    path.write_text(path.read_text() + "".join(f"{row}\n" for row in rows))


def make_rafdb(root: Path) -> None:
    names = ["train_00001", "train_00002", "test_0001"]
    labels = [f"{name}.jpg {code}" for name, code in zip(names, "546", strict=True)]
    lines(root / "basic/EmoLabel/list_patition_label.txt", *labels)
    points = [f"{x}.5\t{y}.25" for x, y in ((30, 40), (60, 40), (45, 60), (35, 75), (55, 75))]
    codes = {"train_00001": "012", "train_00002": "204", "test_0001": "121"}
    for name in names:
        picture(root / f"basic/Image/aligned/{name}_aligned.jpg")
        lines(root / f"basic/Annotation/manual/{name}_manu_attri.txt", *points, *codes[name])


AFFECTNET = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
)
POINTS_68 = ";".join(f"{number}.5" for number in range(136))


def make_affectnet(root: Path) -> None:
    rows = {"training": [("1/a.jpg", "1", "0.5", "0.1"), ("1/b.jpg", "7", "-0.4", "0.3")]}
    rows["validation"] = [("2/c.jpg", "8", "-2", "-2")]
    for split, faces in rows.items():
        table = [f"{name},10,20,100,120,{POINTS_68},{code},{v},{a}" for name, code, v, a in faces]
        lines(root / "Manually_Annotated_file_lists" / f"{split}.csv", AFFECTNET, *table)
        for name, *_ in faces:
            picture(root / "Manually_Annotated_Images" / name)


def make_affectnet_arrays(root: Path) -> None:
    for split, numbers in {"train": (0, 10), "val": (7,)}.items():
        for number in numbers:
            picture(root / f"{split}_set/images/{number}.jpg")
            folder = root / f"{split}_set/annotations"
            folder.mkdir(exist_ok=True)
            # The published files hold 0-d arrays of text.
            np.save(folder / f"{number}_exp.npy", np.array("3"))
            np.save(folder / f"{number}_val.npy", np.array("0.25"))
            np.save(folder / f"{number}_aro.npy", np.array("-0.5"))
            np.save(folder / f"{number}_lnd.npy", np.arange(136) + 0.5)


def pixels(value: int = 7) -> str:
    return " ".join([str(value)] * (48 * 48))


FER = [(3, "Training", 10), (0, "Training", 20), (6, "PublicTest", 30), (4, "PrivateTest", 40)]


def make_fer2013_csv(root: Path) -> None:
    lines(root / "fer2013.csv", "emotion,pixels,Usage", *(f"{e},{pixels(v)},{u}" for e, u, v in FER))


def make_fer2013_icml(root: Path) -> None:
    """The other header, with its leading spaces."""
    lines(root / "icml_face_data.csv", "emotion, Usage, pixels", *(f"{e},{u},{pixels(v)}" for e, u, v in FER))


FERPLUS = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
VOTES = [
    "Training,fer0000000.png,1,9,0,0,0,0,0,0,0,0",
    "Training,fer0000001.png,0,0,0,0,2,0,0,8,0,0",
    "PublicTest,fer0028638.png,0,0,0,0,0,0,0,0,10,0",
    "PrivateTest,fer0032220.png,2,0,0,7,0,0,0,0,0,1",
]


def make_ferplus(root: Path) -> None:
    make_fer2013_csv(root)
    lines(root / "fer2013new.csv", FERPLUS, *VOTES)


def make_ferplus_folders(root: Path) -> None:
    lines(root / "fer2013new.csv", FERPLUS, *VOTES)
    folders = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
    for row in VOTES:
        usage, name = row.split(",")[:2]
        picture(root / folders[usage] / name)


def mat(path: Path, pitch: float, yaw: float, roll: float, **more: object) -> None:
    from scipy.io import savemat

    para = [[math.radians(pitch), math.radians(yaw), math.radians(roll), 100.0, 120.0, -60.0, 0.001]]
    savemat(path, {"Pose_Para": np.array(para), **more})


def make_300wlp(root: Path) -> None:
    points = np.arange(136.0).reshape(2, 68)
    for part in ("AFW", "AFW_Flip", "LFPW"):
        for photo in range(4):
            for turned in (0, 1):
                image = root / part / f"{part.split('_')[0]}_{1000 + photo}_1_{turned}.jpg"
                picture(image)
                mat(
                    image.with_suffix(".mat"),
                    5,
                    30 * turned * (-1 if "Flip" in part else 1),
                    -10,
                    pt2d=points,
                )
    (root / "landmarks").mkdir()


def make_aflw2000(root: Path) -> None:
    points = np.arange(204.0).reshape(3, 68)
    for number, (pitch, yaw, roll) in enumerate([(-10, 45, 5), (0, 0, 0), (20, -80, -15)], start=2):
        picture(root / f"image{number:05d}.jpg")
        mat(root / f"image{number:05d}.mat", pitch, yaw, roll, pt3d_68=points, pt2d=points[:2, :21] * 0 - 1)


def rotation(pan: float, tilt: float, roll: float) -> np.ndarray:
    """Return R = Rz(roll) Ry(pan) Rx(-tilt), in a camera's axes: x right, y down, z away."""
    p, t, r = (math.radians(angle) for angle in (pan, -tilt, roll))
    x = np.array([[1, 0, 0], [0, math.cos(t), -math.sin(t)], [0, math.sin(t), math.cos(t)]])
    y = np.array([[math.cos(p), 0, math.sin(p)], [0, 1, 0], [-math.sin(p), 0, math.cos(p)]])
    z = np.array([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    return z @ y @ x


def pose_file(path: Path, pan: float, tilt: float, roll: float) -> None:
    rows = [" ".join(f"{value:.6f}" for value in row) + " " for row in rotation(pan, tilt, roll)]
    lines(path, *rows, "", "72.0 -25.1 906.5 ")


def make_biwi(root: Path) -> None:
    for person in range(1, 7):
        for frame, angles in ((3, (30, 10, -5)), (4, (-60, 0, 20))):
            stem = root / f"{person:02d}" / f"frame_{frame:05d}"
            picture(Path(f"{stem}_rgb.png"))
            pose_file(Path(f"{stem}_pose.txt"), *angles)


def make_agedb(root: Path) -> None:
    people = ("MariaCallas", "CharlesChaplin", "Jean_Gabin")
    for number in range(12):
        picture(root / f"{number}_{people[number % 3]}_{20 + number}_{'fmm'[number % 3]}.jpg")


MORPH = "id_num,picture_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo"


def make_morph(root: Path) -> None:
    rows = []
    for subject, (race, sex) in enumerate(
        [("W", "M"), ("B", "F"), ("H", "M"), ("U", "F"), ("I", "M")], start=1
    ):
        for number in (0, 1):
            age = 20 + subject + number
            name = f"Album2/{subject:06d}_{number}{sex}{age}.JPG"
            picture(root / name)
            dates = "1960-01-01 00:00:00,1990-01-01 00:00:00"
            rows.append(f"{subject},{number},{dates},{race},{sex},NULL,{age},0,NULL,{name}")
    lines(root / "morph_2008_nonCommercial.csv", MORPH, *rows)


def make_morph_names(root: Path) -> None:
    for subject in range(1, 30):
        picture(root / f"{subject:06d}_1{'MF'[subject % 2]}{20 + subject}.JPG")


def make_lfw_variant(root: Path, name: str) -> None:
    people = [f"Person_{number}" for number in range(4)]
    rows = []
    for fold, person in enumerate(people, start=1):
        for number in (1, 2):
            picture(root / "aligned images" / f"{person}_{number:04d}.jpg")
        rows += [f"{person}_0001.jpg {fold}", f"{person}_0002.jpg {fold}"]
    for first, second in pairwise(people):
        rows += [f"{first}_0001.jpg 0", f"{second}_0002.jpg 0"]
    lines(root / f"pairs_{name.upper()}.txt", *rows)


def make_disfa(root: Path) -> None:
    for person in ("SN001", "SN003", "SN013"):
        for unit in DISFA_UNITS:
            level = {"AU12": 3, "AU6": 2, "AU4": 1}.get(unit, 0)
            rows = [f"{frame},{level if frame == 2 else 0}" for frame in (1, 2, 3)]
            lines(root / "ActionUnit_Labels" / person / f"{person}_{unit.lower()}.txt", *rows)
        for frame in range(3):
            picture(root / "img" / person / f"{frame}.jpg")


def make_disfaplus(root: Path) -> None:
    for person in ("SN001", "SN003", "SN025", "SN031"):
        for trial in ("A1_AU1_TrailNo_1", "Y2_Happy_TrailNo_2"):
            for unit in DISFA_UNITS:
                rows = ["# frame intensity", "000.jpg 0", f"001.jpg {4 if unit == 'AU1' else 0}"]
                lines(root / "Labels" / person / trial / f"{unit}.txt", *rows)
            for frame in (0, 1):
                picture(root / "Images" / person / trial / f"{frame:03d}.jpg")


def make_bp4d(root: Path) -> None:
    header = ",".join(str(number) for number in range(28))
    active = {int(unit.removeprefix("AU")) for unit in BP4D_UNITS[:3]}
    for person in ("F001", "F007", "M011"):
        rows = []
        for frame in (2440, 2441):
            codes = ["9" if n == 14 and frame == 2441 else str(int(n in active)) for n in range(1, 28)]
            rows.append(",".join([str(frame), *codes]))
            picture(root / "img" / person / "T1" / f"{frame:04d}.jpg")
        assert person in BP4D_FOLDS
        lines(root / "AUCoding/AU_OCC" / f"{person}_T1.csv", header, *rows)


def laion_rows(count: int = 5) -> dict[str, list]:
    return {
        "SAMPLE_ID": [1000.0 + number for number in range(count)],
        "URL": [f"https://example.org/{number}.jpg" for number in range(count)],
        "TEXT": [f"a text {number}" for number in range(count)],
        "HEIGHT": [300] * count,
        "WIDTH": [200] * count,
        "LICENSE": ["?"] * count,
        "NSFW": ["UNLIKELY"] * count,
        "similarity": [0.31] * count,
    }


def parquet(path: Path, columns: dict[str, list]) -> None:
    import pyarrow as pa
    from pyarrow import parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def make_laionface(root: Path) -> None:
    import torch

    parquet(root / "laion_face_part_00000.parquet", laion_rows())
    points = [[10.0, 20.0], [40.0, 20.0], [25.0, 35.0], [15.0, 45.0], [35.0, 45.0]]
    faces = {1001: [([0, 0, 9, 9], points, 0.5), ([5.0, 6.0, 55.0, 66.0], points, 0.9)]}
    torch.save(faces, root / "sample2detect_0.pth")


def make_laion400m(root: Path) -> None:
    import torch

    for part in (0, 1):
        parquet(
            root / f"part-{part:05d}-5b54c5d5-bbcf-484d-a2ce-0d6f73df1a36-c000.snappy.parquet", laion_rows()
        )
    torch.save([[1003, 1001], [1000]] + [[] for _ in range(30)], root / "laion_face_ids.pth")


def make_laion_shards(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / "00000.tar", "w") as archive:
        for number in range(3):
            key = f"{number:09d}"
            meta = {"url": f"https://example.org/{number}.jpg", "caption": f"a text {number}", "key": key,
                    "status": "success", "width": 256, "height": 128, "NSFW": "UNLIKELY", "similarity": 0.3,
                    "LICENSE": "?", "SAMPLE_ID": 1000.0 + number}  # fmt: skip
            for suffix, data in (
                ("jpg", b"picture"),
                ("json", json.dumps(meta).encode()),
                ("txt", b"a text"),
            ):
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(data)
                archive.addfile(info, BytesIO(data))


def make_facecaption(root: Path) -> None:
    columns = {
        "_id": ["a", "b"],
        "caption": [["A woman who smiles."], ["A man with a beard."]],
        "url": ["https://example.org/1.jpg, https://mirror.example.org/1.jpg", "http://example.org/2.jpg"],
        "laion_caption": [["holiday"], []],
        "box": ["[10, 20, 110, 140]", "[0, 0, 50, 50]"],
    }
    parquet(root / "FaceCaption-v2.parquet", columns)


def conversation(image: str, *turns: str) -> dict:
    said = [{"from": ("human", "gpt")[index % 2], "value": text} for index, text in enumerate(turns)]
    return {"id": image, "image": image, "conversations": said}


def make_llava(root: Path) -> None:
    items = [
        conversation("a.jpg", "<image>\nHow old?", "34", "And the mood?", "Happy."),
        conversation("b.jpg", "What is here?\n<image>", "A face."),
    ]
    for name in ("a.jpg", "b.jpg"):
        picture(root / "images" / name)
    (root / "train.json").write_text(json.dumps(items, indent=1))


def make_csv(root: Path) -> None:
    header = "image,age,expression,pan,tilt,identity,split,attributes/beard,AU12,x1,y1,x2,y2"
    rows = ["a.jpg,34,Happy,10,-5,ada,train,yes,1,1,2,30,40", "b.jpg,,sad,,,ben,test,,0,,,,"]
    lines(root / "labels.csv", header, *rows)
    lines(root / "facemllm.yaml", "licence: own photos", "consent: all agreed", "vocabulary: mine-3")
    for name in ("a.jpg", "b.jpg"):
        picture(root / name)


def make_folder(root: Path) -> None:
    for split in ("train", "test"):
        for label in ("Happy", "sad"):
            picture(root / split / label / f"{split}{label}.jpg")


MAKERS = {
    "rafdb": ("rafdb", make_rafdb),
    "affectnet": ("affectnet", make_affectnet),
    "affectnet, arrays": ("affectnet", make_affectnet_arrays),
    "fer2013, csv": ("fer2013", make_fer2013_csv),
    "fer2013, icml csv": ("fer2013", make_fer2013_icml),
    "ferplus": ("ferplus", make_ferplus),
    "ferplus, folders": ("ferplus", make_ferplus_folders),
    "300wlp": ("300wlp", make_300wlp),
    "aflw2000": ("aflw2000", make_aflw2000),
    "biwi": ("biwi", make_biwi),
    "agedb": ("agedb", make_agedb),
    "morph": ("morph", make_morph),
    "morph, names": ("morph", make_morph_names),
    "calfw": ("calfw", lambda root: make_lfw_variant(root, "calfw")),
    "cplfw": ("cplfw", lambda root: make_lfw_variant(root, "cplfw")),
    "disfa": ("disfa", make_disfa),
    "disfaplus": ("disfaplus", make_disfaplus),
    "bp4d": ("bp4d", make_bp4d),
    "laionface": ("laionface", make_laionface),
    "laionface, 400m": ("laionface", make_laion400m),
    "laionface, shards": ("laionface", make_laion_shards),
    "facecaption": ("facecaption", make_facecaption),
    "llava-json": ("llava-json", make_llava),
    "csv": ("csv", make_csv),
    "folder": ("folder", make_folder),
}


@pytest.fixture(params=sorted(MAKERS))
def any_layout(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """Each layout in turn: the reader's name and the root."""
    name, maker = MAKERS[request.param]
    root = tmp_path / "root"
    root.mkdir()
    maker(root)
    return name, root


@pytest.fixture
def layout(tmp_path: Path):
    """Make one of the layouts by its name and return its root."""

    def build(name: str) -> Path:
        root = tmp_path / name.replace(", ", "-")
        root.mkdir()
        MAKERS[name][1](root)
        return root

    return build


@pytest.fixture
def forge() -> SimpleNamespace:
    """The functions that write files in the formats above."""
    return SimpleNamespace(
        append=append, conversation=conversation, laion_rows=laion_rows, lines=lines, mat=mat,
        parquet=parquet, picture=picture, pixels=pixels, pose_file=pose_file, rotation=rotation,
    )  # fmt: skip
