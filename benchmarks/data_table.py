"""Writes the measured numbers of readers and of the leak finder into docs/data.md, between its markers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.pages import filled

Report = Mapping[str, Any]


def leaks(report: Report) -> str:
    """Return a table of recall by kind of change, and what was wrong."""
    rows = [f"| {kind} | {100 * share:.1f} % |" for kind, share in report["recall_by_kind"].items()]
    near = report["with_pairs_already_in_the_archives"]["false_per_10000_compared"]
    wrong = (
        f"False pairs: {report['false_pairs']} of {report['compared_pairs']:,} compared, "
        f"{report['false_per_10000_compared']:.4f} in 10,000; {near:.2f} in 10,000 where two originals that "
        "look like copies of each other (mostly Pointing'04 frames of one sitting) count as false too."
    )
    total = f"| all {report['copies']:,} | **{100 * report['recall']:.2f} %** |"
    return "\n".join(["| copies | found |", "|---|---:|", *rows, total, "", wrong])


def leaks_embedding(report: Report) -> str:
    """Return a table of edited copies found by pixels and with each encoder, and what was wrong."""
    encoders = [name for name in report if isinstance(report[name], dict)]
    columns = [(name, step) for name in encoders for step in ("0.8", "0.92")]
    pixels = report[encoders[0]]["recall_by_pixels"]
    edits = [kind for kind in pixels if min(report[n]["recall_by_pixels"][kind] for n in encoders) < 0.99]
    found = [report[name]["with_embeddings_from"][step] for name, step in columns]
    lines = [
        "| copies | by pixels | " + " | ".join(f"`{name}`, {step}" for name, step in columns) + " |",
        "|---|---:|" + "---:|" * len(columns),
    ]
    for kind in edits:
        shares = (pixels[kind], *(way["recall"][kind] for way in found))
        lines.append(f"| {kind} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |")
    wrong = " | ".join(f"{way['false_per_10000_compared']:.2f}" for way in found)
    lines.append(f"| false pairs of embeddings in 10,000 | | {wrong} |")
    return "\n".join(lines)


def readers(report: Report) -> str:
    """Return a table of records a second and of memory."""
    rows = [
        f"| `{name}` | {found['records_per_second']:,} | {found['peak_mib']:.0f} |"
        for name, found in sorted(report["readers"].items(), key=lambda item: -item[1]["records_per_second"])
    ]
    slowest = report["slowest"]
    few, many = (slowest["runs"][count] for count in sorted(slowest["runs"], key=int))
    versus = [
        f"{name} {ours[f'facemllm{way}']['records_per_second']:,} against "
        f"{ours[f'torchvision{way}']['records_per_second']:,}{' with every picture decoded' if way else ''} "
        f"(median ratio of neighbouring rounds: {ours.get(f'median_ratio{way}', 'not measured')})"
        for name, ours in report["torchvision"].items()
        if isinstance(ours, dict)
        for way in ("", "_decoded")
    ]
    said = (
        f"{many['records']:,} records through the slowest, `{slowest['reader']}`: "
        f"{many['records_per_second']:,} a second, {many['peak_mib']:.0f} MiB at most, "
        f"{slowest['growth_mib']:+.1f} MiB against {few['records']:,} records. Records a second of facemllm "
        f"against torchvision on the same files, best of the rounds: {'; '.join(versus)}."
    )
    return "\n".join(
        ["| reader | records a second of processor time | peak MiB |", "|---|---:|---:|", *rows, "", said]
    )


TABLES: dict[str, Callable[[Report], str]] = {
    "leaks": leaks,
    "leaks_embedding": leaks_embedding,
    "readers": readers,
}


def main() -> None:
    """Rewrite the page from the results that are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, default=Path("docs/data.md"))
    options = parser.parse_args()
    kept = {name: options.results / f"{name}.json" for name in TABLES}
    blocks = {
        name: TABLES[name](json.loads(path.read_text())) for name, path in kept.items() if path.is_file()
    }
    for name, path in kept.items():
        print(f"{path}: {'into the page' if name in blocks else 'missing, its numbers stay as they are'}")
    text, _ = filled(options.page.read_text(), blocks)
    options.page.write_text(text)


if __name__ == "__main__":
    main()
