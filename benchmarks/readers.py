"""Records a second of processor time and peak memory of every reader, on files made in each dataset's layout.

Processor time, because the clock also counts what else a machine does; files are in the system's cache.

Pictures are links to one small photo, so that labels and file names are measured rather than the disk. The
slowest reader then reads ``--records`` records, at a tenth of them and at all, in processes of their own:
the difference of their peaks is what memory grows by. torchvision's CelebA and LFW loaders read the same
files, in ``--rounds`` processes in turn with ours. The decoder is slower by a third where its buffer of a
line starts at a multiple of 32 bytes, which is chance and stays so for a whole process; so each keeps a
small block of random size now and then, after which buffers lie elsewhere. ``--versus`` does this alone, and
leaves the other results as they are.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facemllm.data.readers.disfa import FOLDS
from facemllm.data.vocabularies import BP4D_UNITS, CELEBA_ATTRIBUTES, DISFA_UNITS, EXPRESSIONS

Maker = Callable[[Path, Path, int], None]


def link(photo: Path, path: Path) -> None:
    """Put a picture at ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(photo, path)
    except OSError:  # file systems allow so many links to a file and no more
        shutil.copyfile(photo, path)


def celeba(root: Path, photo: Path, count: int) -> None:
    """CelebA's lists and aligned pictures."""
    values = " ".join(["-1", "1"] * 20)
    names = [f"{number:06d}.jpg" for number in range(1, count + 1)]
    for name in names:
        link(photo, root / "img_align_celeba" / name)
    head = [str(count), " ".join(CELEBA_ATTRIBUTES.codes)]
    (root / "list_attr_celeba.txt").write_text(
        "\n".join([*head, *(f"{name} {values}" for name in names)]) + "\n"
    )
    (root / "list_eval_partition.txt").write_text("".join(f"{name} 0\n" for name in names))
    (root / "identity_CelebA.txt").write_text("".join(f"{name} {n % 99}\n" for n, name in enumerate(names)))
    boxes = "".join(f"{name} 1 2 3 4\n" for name in names)
    (root / "list_bbox_celeba.txt").write_text(f"{count}\nimage_id x_1 y_1 width height\n{boxes}")
    points = "".join(f"{name} 1 2 3 4 5 6 7 8 9 10\n" for name in names)
    (root / "list_landmarks_align_celeba.txt").write_text(
        f"{count}\nlefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y "
        f"rightmouth_x rightmouth_y\n{points}"
    )


def lfw(root: Path, photo: Path, count: int) -> None:
    """LFW's folders, two pictures a person."""
    for number in range(count):
        person = f"Person_{number // 2}"
        link(photo, root / person / f"{person}_{number % 2 + 1:04d}.jpg")
    people = [f"Person_{number}" for number in range((count + 1) // 2)]
    (root / "male_names.txt").write_text("".join(f"{person}_0001.jpg\n" for person in people))
    (root / "lfw-names.txt").write_text("".join(f"{person}\t2\n" for person in people))


def utkface(root: Path, photo: Path, count: int) -> None:
    """UTKFace's names."""
    for number in range(count):
        link(photo, root / f"{number % 100}_{number % 2}_{number % 5}_2017{number:013d}.jpg.chip.jpg")


def fairface(root: Path, photo: Path, count: int) -> None:
    """FairFace's csv file."""
    for number in range(count):
        link(photo, root / "train" / f"{number}.jpg")
    rows = "".join(f"train/{number}.jpg,20-29,Male,White,True\n" for number in range(count))
    (root / "fairface_label_train.csv").write_text(f"file,age,gender,race,service_test\n{rows}")


def fer2013(root: Path, photo: Path, count: int) -> None:
    """FER2013's csv file, whose pictures stand in its rows."""
    root.mkdir(parents=True)
    pixels = " ".join(["127"] * 48 * 48)
    with (root / "fer2013.csv").open("w") as file:
        file.write("emotion,pixels,Usage\n")
        for number in range(count):
            file.write(f"{number % len(EXPRESSIONS)},{pixels},Training\n")


def affectnet(root: Path, photo: Path, count: int) -> None:
    """AffectNet's release with four arrays a picture."""
    import numpy as np

    folder = root / "train_set/annotations"
    folder.mkdir(parents=True)
    arrays = {"exp": np.array("1"), "val": np.array("0.5"), "aro": np.array("0.1"), "lnd": np.zeros(136)}
    for kind, array in arrays.items():
        np.save(root / f"{kind}.npy", array)
    for number in range(count):
        link(photo, root / "train_set/images" / f"{number}.jpg")
        for kind in arrays:
            link(root / f"{kind}.npy", folder / f"{number}_{kind}.npy")


def lp300w(root: Path, photo: Path, count: int) -> None:
    """300W-LP's MATLAB files, with all that a published one holds."""
    import numpy as np
    from scipy.io import savemat

    root.mkdir(parents=True)
    para = np.array([[0.1, 0.2, 0.3, 1, 2, 3, 1e-3]])
    rest = {"Shape_Para": np.zeros((199, 1)), "Exp_Para": np.zeros((29, 1)), "Color_Para": np.zeros((1, 7))}
    savemat(root / "all.mat", {"Pose_Para": para, "pt2d": np.zeros((2, 68)), "roi": np.zeros((1, 4)), **rest})
    for number in range(count):
        image = root / "AFW" / f"AFW_{number}_1.jpg"
        link(photo, image)
        link(root / "all.mat", image.with_suffix(".mat"))


def biwi(root: Path, photo: Path, count: int) -> None:
    """BIWI's frames of four people."""
    pose = root / "pose.txt"
    root.mkdir(parents=True)
    pose.write_text("1 0 0\n0 1 0\n0 0 1\n\n1 2 3\n")
    for number in range(count):
        stem = f"{number % 4 + 1:02d}/frame_{number:05d}"
        link(photo, root / f"{stem}_rgb.png")
        link(pose, root / f"{stem}_pose.txt")


def disfa(root: Path, photo: Path, count: int) -> None:
    """DISFA's twelve files a person, films of 4,845 frames."""
    people = list(FOLDS)
    frames = min(4845, count)
    for person in people[: math.ceil(count / frames)]:
        folder = root / "ActionUnit_Labels" / person
        folder.mkdir(parents=True)
        for unit in DISFA_UNITS:
            text = "".join(f"{frame},0\n" for frame in range(1, frames + 1))
            (folder / f"{person}_{unit.lower()}.txt").write_text(text)
        for frame in range(frames):
            link(photo, root / "img" / person / f"{frame}.jpg")


def bp4d(root: Path, photo: Path, count: int) -> None:
    """BP4D's tables."""
    numbers = ",".join(str(number) for number in range(28))
    frames = min(count, 1000)
    (root / "AUCoding/AU_OCC").mkdir(parents=True)
    films = [(f"F{person:03d}", f"T{task}") for person in range(1, 24) for task in range(1, 9)]
    for person, task in films[: math.ceil(count / frames)]:
        rows = "".join(f"{frame}{',0' * 27}\n" for frame in range(frames))
        (root / f"AUCoding/AU_OCC/{person}_{task}.csv").write_text(f"{numbers}\n{rows}")
        for frame in range(frames):
            link(photo, root / "img" / person / task / f"{frame}.jpg")
    assert set(BP4D_UNITS)


def laionface(root: Path, photo: Path, count: int) -> None:
    """A joined table of LAION-Face."""
    import pyarrow as pa
    from pyarrow import parquet

    root.mkdir(parents=True)
    columns: dict[str, Any] = {
        "SAMPLE_ID": list(range(count)),
        "URL": [f"https://example.org/{number}.jpg" for number in range(count)],
        "TEXT": ["a text of the usual length beside a picture of a person"] * count,
        "HEIGHT": [300] * count,
        "WIDTH": [200] * count,
        "LICENSE": ["?"] * count,
        "NSFW": ["UNLIKELY"] * count,
        "similarity": [0.31] * count,
    }
    parquet.write_table(pa.table(columns), root / "laion_face_part_00000.parquet")


MAKERS: dict[str, Maker] = {
    "affectnet": affectnet, "biwi": biwi, "bp4d": bp4d, "celeba": celeba, "disfa": disfa,
    "fairface": fairface, "fer2013": fer2013, "300wlp": lp300w, "laionface": laionface, "lfw": lfw,
    "utkface": utkface,
}  # fmt: skip

# The high-water mark of this process alone; getrusage would carry over that of its parent.
PEAK = """
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)

def told(count, seconds, work):
    import json
    print(json.dumps({"records": count, "seconds": round(seconds, 3), "cpu_seconds": round(work, 3),
                      "records_per_second": round(count / work), "peak_mib": peak()}))
"""

# Moves what the decoder allocates next; the same sizes in the same order for all who are measured in a round.
PLACES = """
import random
places, kept = random.Random(int(sys.argv.pop())), []
def elsewhere(count):
    if count % 8 == 0: kept.append(bytearray(places.randrange(513, 2048)))
"""

MEASURE = """
import json, sys, time
from facemllm.data import stream_dataset
name, root = sys.argv[1:3]
start, work, count = time.perf_counter(), time.process_time(), 0
for sample in stream_dataset(name, root, strict=True):
    count += 1
told(count, time.perf_counter() - start, time.process_time() - work)
"""

TORCHVISION = """
import json, sys, time
PLACES
from torchvision.datasets import CelebA, LFWPeople
name, root, decode = sys.argv[1:]
start, work = time.perf_counter(), time.process_time()
if name == "celeba":
    class Whole(CelebA):
        def _check_integrity(self): return True
    data = Whole(root, split="all", target_type=["attr", "identity"])
else:
    class Whole(LFWPeople):
        def _check_integrity(self): return True
    # By itself, this one decodes and converts also where only labels are asked for.
    loader = {} if int(decode) else {"loader": str}
    data = Whole(root, split="10fold", image_set="original", **loader)
for index in range(len(data)):
    image, target = data[index]
    if int(decode):
        elsewhere(index)
        image.load()  # CelebA's are opened and no more; LFW's are RGB by now, and not to be copied again
        if image.mode != "RGB": image = image.convert("RGB")
told(len(data), time.perf_counter() - start, time.process_time() - work)
""".replace("PLACES", PLACES)

DECODED = MEASURE.replace(
    "    count += 1", "    count += 1\n    elsewhere(count)\n    load_image(sample.image)"
).replace(
    "from facemllm.data import",
    f"{PLACES.strip()}\nfrom facemllm.processing.reading import load_image\nfrom facemllm.data import",
)


def measure(script: str, *arguments: object) -> dict[str, Any]:
    """Run a measurement in a process of its own and return what it prints."""
    command = [sys.executable, "-c", PEAK + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def versus_torchvision(name: str, root: Path, count: int) -> dict[str, Any]:
    """Compare with torchvision on the same files: labels alone, and with every picture decoded."""
    above = root.parent
    if name == "lfw":  # where torchvision looks for it
        above = root.parent / "tv"
        (above / "lfw-py").mkdir(parents=True)
        (above / "lfw-py/lfw").symlink_to(root)
        names = (root / "lfw-names.txt").read_text()
        (above / "lfw-py/lfw-names.txt").write_text(names)
        (above / "lfw-py/people.txt").write_text(f"1\n{names.count(chr(10))}\n{names}")
    ways: dict[str, tuple[Any, ...]] = {
        "facemllm": (MEASURE, name, root),
        "facemllm_decoded": (DECODED, name, root),
        "torchvision": (TORCHVISION, name, above, 0),
        "torchvision_decoded": (TORCHVISION, name, above, 1),
    }
    # In turns, each time another first; the machine's pace changes, so that only neighbours compare.
    rounds = [
        {way: measure(*ways[way], turn) for way in (ways if turn % 2 else reversed(ways))}
        for turn in range(count)
    ]
    rates = {way: [one[way]["records_per_second"] for one in rounds] for way in ways}
    result: dict[str, Any] = {
        way: {"records_per_second": max(found), "rounds": found} for way, found in rates.items()
    }
    for way in ("", "_decoded"):
        pairs = zip(rates[f"facemllm{way}"], rates[f"torchvision{way}"], strict=True)
        result[f"median_ratio{way}"] = round(statistics.median(ours / theirs for ours, theirs in pairs), 3)
    return result


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, help="records through the slowest reader")
    parser.add_argument("--sample", type=int, default=3000, help="records through each reader")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/readers.json"))
    parser.add_argument("--rounds", type=int, default=9, help="processes of each way beside torchvision")
    parser.add_argument("--versus", action="store_true", help="only the comparison with torchvision")
    options = parser.parse_args()
    started = time.time()
    result: dict[str, Any] = {"sample": options.sample, "readers": {}}
    if options.versus:
        result = json.loads(options.out.read_text())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        from PIL import Image

        photo = folder / "photo.jpg"
        Image.effect_noise((178, 218), 40).convert("RGB").save(photo, quality=85)

        def made(name: str, count: int) -> Path:
            root = folder / f"{name}-{count}" / name
            if not root.parent.exists():
                root.parent.mkdir()
                MAKERS[name](root, photo, count)
            return root

        for name in MAKERS if not options.versus else ():
            result["readers"][name] = measure(MEASURE, name, made(name, options.sample))
            print(f"{name:10} {result['readers'][name]}", flush=True)
        if not options.versus:
            slowest = min(result["readers"], key=lambda name: result["readers"][name]["records_per_second"])
            few, many = options.records // 10, options.records
            runs = {str(count): measure(MEASURE, slowest, made(slowest, count)) for count in (few, many)}
            result["slowest"] = {"reader": slowest, "runs": runs}
            growth = runs[str(many)]["peak_mib"] - runs[str(few)]["peak_mib"]
            result["slowest"]["growth_mib"] = round(growth, 1)
            print(
                f"slowest: {slowest}, {runs[str(many)]}; {growth:+.1f} MiB from {few} records on", flush=True
            )
        result["torchvision"] = {"records": options.sample}
        for name in ("celeba", "lfw"):
            result["torchvision"][name] = versus_torchvision(name, made(name, options.sample), options.rounds)
            for way, found in result["torchvision"][name].items():
                print(f"{name:10} {way:20} {found}", flush=True)
        # Before the folder goes, which takes a while with so many files.
        (result["torchvision"] if options.versus else result)["seconds"] = round(time.time() - started)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"saved {options.out}", flush=True)


if __name__ == "__main__":
    main()
