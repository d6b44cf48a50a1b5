"""Starts runs, kills them with SIGKILL where it is told to, and lets them go on. Run as a program.

It forks from a process that has imported everything, so that a start costs little; the killed processes are
real. Every write, rename and removal in the run's folder and every step is an event with a name. A plan is a
list of names; each start is killed at the first of them that it comes to, and goes on with those behind it.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

STEPS = {"language": 3, "encoder": 3, "alignment": 3, "basic-vqa": 3, "face-tasks": 4}
LANGUAGE = {"steps": 3, "batch_size": 4, "texts": 60, "hidden_size": 16, "layers": 1, "heads": 2}
SOURCE = "[{dataset: utkface, split: all}]"


def recipe():
    from facemllm.training import ThreeStageRecipe

    stages = ("alignment", "basic-vqa", "face-tasks")
    loaded = ThreeStageRecipe.load(
        "tiny",
        (
            "encoder={name: dlib-face, image_size: 112, stages: 2}",
            f"encoder_phase={{steps: 3, batch_size: 2, data: {SOURCE}}}",
            f"language_phase={json.dumps({**LANGUAGE, 'vocab_size': 600})}",
            "lora={r: 2, dropout: 0.1}",
            "stages.1.train=[connector, lora]",
            "stages.1.lr={connector: 0.01, lora: 0.01}",
            "stages.2.train=[encoder, connector, lora]",
            "stages.2.lr={encoder: 0.001, connector: 0.01, lora: 0.01}",
            "stages.2.layer_decay={encoder: 0.8}",
            "stages.2.accumulate=2",
            f"stages.1.held_out={{data: {SOURCE}, every: 2, batches: 1, patience: 5}}",
            *(f"stages.{i}.steps={STEPS[name]}" for i, name in enumerate(stages)),
            *(f"stages.{i}.batch_size=5" for i in range(3)),
            *(f"stages.{i}.data={SOURCE}" for i in range(3)),
        ),
    )
    return loaded.model_copy(update={"stages": loaded.stages[:3]})


recipe_of_run = recipe


class Events:
    """Names events as they happen, and ends the process at one of them."""

    def __init__(self, out: Path, die_at: list[str]) -> None:
        self.out, self.die_at, self.names = str(out), set(die_at), []

    def __call__(self, name: str) -> None:
        self.names.append(name)
        if name in self.die_at:
            Path(f"{self.out}.died").write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)

    def listen(self) -> None:
        import safetensors.torch

        from facemllm.training import files, loop

        def heard(event: str, arguments: tuple) -> None:
            kinds = {"os.rename": "rename", "os.remove": "remove", "os.rmdir": "rmdir", "os.mkdir": "mkdir"}
            path = str(arguments[0]) if arguments and isinstance(arguments[0], (str, Path)) else ""
            if f"{self.out}/" not in path or path.endswith("log.jsonl"):
                return
            if event in kinds:
                self(f"{kinds[event]} {path[len(self.out) + 1 :]}")
            elif event == "open" and arguments[1] is not None and any(c in str(arguments[1]) for c in "wa+"):
                self(f"open {path[len(self.out) + 1 :]}")

        sys.addaudithook(heard)
        track, save, sync = loop.track, safetensors.torch.save_file, os.fsync

        def steps(items, name, **options):
            for item in track(items, name, **options):
                self(f"step {name} {item}")
                yield item

        def torn(tensors, path, **options):
            name = f"torn {str(path)[len(self.out) + 1 :]}"
            if name in self.die_at:  # half of a file is on disk
                save(tensors, path, **options)
                os.truncate(path, Path(path).stat().st_size // 2)
            self(name)
            save(tensors, path, **options)

        def synced(descriptor):
            self(f"sync {str(Path(f'/proc/self/fd/{descriptor}').readlink())[len(self.out) + 1 :]}")
            sync(descriptor)

        loop.track, safetensors.torch.save_file, files.os.fsync = steps, torn, synced


def child(out: Path, root: Path, die_at: list[str], environment: dict, changes: str) -> None:
    """Be one process of a run."""
    os.environ.update(environment)
    import facemllm.training.loop as loop
    from facemllm.training import Trainer

    loop.CHECKPOINT_EVERY = loop.LOG_EVERY = 1
    exec(changes, {"out": out, "environment": environment, "loop": loop})
    events = Events(out, die_at)
    events.listen()
    Trainer(None, recipe_of_run(), output_dir=out, data_root=root, progress=False).fit(resume=True)
    (out.parent / f"{out.name}-{environment.get('RANK', 0)}.json").write_text(json.dumps(events.names))


def start(
    out: Path,
    root: Path,
    die_at: list[str],
    *,
    count: int = 1,
    victim: int = 0,
    changes: str = "",
    extra: dict | None = None,
) -> bool:
    """Start a run, wait for its end, and return whether it finished; when one process dies, so do all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    pids = []
    for rank in range(count):
        environment = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
        environment |= {"LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                log = os.open(f"{out}-{rank}.out", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
                os.dup2(log, 1), os.dup2(log, 2)
                environment = {**(extra or {}), **(environment if count > 1 else {})}
                child(out, root, die_at if rank == victim else [], environment, changes)
                status = 0
            except BaseException:  # noqa: BLE001 (whatever it is, the parent tells of it)
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush(), sys.stderr.flush()
                os._exit(status)
        pids.append(pid)
    codes: dict[int, int] = {}
    while len(codes) < count:
        for pid in pids:
            if pid not in codes and (ended := os.waitpid(pid, os.WNOHANG))[0]:
                codes[pid] = os.waitstatus_to_exitcode(ended[1])
        if any(code == -signal.SIGKILL for code in codes.values()):
            for pid in set(pids) - set(codes):
                os.kill(pid, signal.SIGKILL)
                codes[pid] = -os.waitpid(pid, 0)[1]
        time.sleep(0.01)
    if all(code in (0, 1) for code in codes.values()) and any(codes.values()):
        raise RuntimeError("\n".join(Path(f"{out}-{rank}.out").read_text()[-3000:] for rank in range(count)))
    return not any(codes.values())


def import_all() -> None:
    """Import what a run needs, on one thread: what is forked must have no others."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    import facemllm.training.trainer  # noqa: F401

    torch.set_num_threads(1)


def prepared(folder: Path, name: str, like: Path | None) -> Path:
    """Return the folder of a run, with the face crops that another one has found."""
    out = folder / name
    out.mkdir(parents=True)
    for crops in like.glob("cache/*") if like is not None else ():
        if "features" not in crops.name:
            shutil.copytree(crops, out / "cache" / crops.name)
    return out


def weights(out: Path) -> str:
    """Return the hash of what a run has made."""
    return hashlib.sha256((out / "model" / "model.safetensors").read_bytes()).hexdigest()


def choose(names: list[str], rng: random.Random, *, steps: int, saves: int, others: int) -> list[str]:
    """Choose where to kill: in steps and saves of each phase, and elsewhere; in the order of the events."""
    chosen = set()
    for phase, folder in zip(STEPS, ("language", "encoder", "1-", "2-", "3-"), strict=True):
        inside = [name for name in names if f"{folder}" in name and "checkpoint" in name]
        chosen |= set(rng.sample([name for name in names if name.startswith(f"step {phase} ")], steps))
        chosen |= set(rng.sample(inside, saves))
    rest = [name for name in names if "checkpoint" not in name and not name.startswith("step ")]
    chosen |= set(rng.sample(rest, others))
    last = {name: index for index, name in enumerate(names)}
    return sorted(chosen, key=lambda name: last[name])


def main(folder: Path, root: Path, seed: int) -> None:
    """Run everything and print what was found as JSON."""
    import_all()
    rng = random.Random(seed)
    report: dict = {}
    crops: Path | None = None
    for count, options in (
        (1, {"steps": 2, "saves": 2, "others": 3}),
        (2, {"steps": 1, "saves": 1, "others": 0}),
    ):
        whole = prepared(folder, f"whole-{count}", crops)
        crops = crops or whole
        start(whole, root, [], count=count)
        names = json.loads((folder / f"{whole.name}-0.json").read_text())
        points = choose(list(dict.fromkeys(names)), rng, **options)
        stopped = prepared(folder, f"stopped-{count}", crops)
        died: list[str] = []
        ahead = points
        while not start(stopped, root, ahead, count=count, victim=len(died) % count if count > 1 else 0):
            died.append(Path(f"{stopped}.died").read_text())
            ahead = points[points.index(died[-1]) + 1 :]
        report[str(count)] = {
            "events": len(names),
            "died": died,
            "whole": weights(whole),
            "stopped": weights(stopped),
        }
    # A damaged newest checkpoint, then a disk on which no file may grow, then room again.
    full = prepared(folder, "full", crops)
    start(full, root, ["step face-tasks 3"])
    store = full / "stages" / "3-face-tasks" / "checkpoint"
    newest = max(store.glob("step-*")) / "model.safetensors"
    damage(newest)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))"
    try:
        start(full, root, [], changes=limit)
    except RuntimeError as error:
        report["full"] = {"error": str(error), "left": sorted(path.name for path in store.iterdir())}
    start(full, root, [])
    report["full"]["weights"] = weights(full)
    # The check itself: a run that loses Adam's averages when it goes on must end elsewhere.
    wrong = prepared(folder, "wrong", crops)
    start(wrong, root, ["step face-tasks 2"])
    start(wrong, root, [], changes="loop.load_optimizer = lambda *_: None")
    report["wrong"] = weights(wrong)
    sys.stdout.write(json.dumps(report))


def damage(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
