"""Whether a model understands questions in words that nobody who made it has chosen.

    python -m benchmarks.wordings --data data --model facemllm-tiny --out benchmarks/results/wordings.json

``wordings.jsonl`` holds open questions of seven tasks and some that a face does not answer, written by
somebody who had seen none of the phrasings in ``facemllm/data/questions``; none of them may ever be trained
on. Each is asked of the same held-out faces as the usual wording. Three numbers a task:

- ``answered``: the share that is not met with "I don't know.", and is of the task;
- ``agrees``: the share with the label that the usual wording gets (an age within two years, a head pose
  within ten degrees of each angle; descriptions are not compared);
- ``accuracy`` or ``mae``: against the truth, of what is answered, and of the usual wording beside it.

Of the unanswerable ones, ``declined`` is the share met with "I don't know.".
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.smol import samples_of
from facemllm import AutoFaceMLLM
from facemllm.data import UNKNOWN, canonical_question
from facemllm.evaluation import EvalTask, supported_tasks
from facemllm.evaluation.tasks import Question

HERE = Path(__file__).parent
QUESTIONS = HERE / "wordings.jsonl"
ASKED_OF = {
    "age": "utkface",
    "age_bin": "fairface",
    "expression": "fer2013",
    "gender": "fairface",
    "ethnicity": "fairface",
    "pose": "pointing04",
    "description": "fairface",
    "unknown": "fairface",
}
NEAR = {"age": 2.0, "pose": 10.0}


def read_questions(path: Path = QUESTIONS) -> dict[str, list[str]]:
    """Return the questions by task."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(row["task"], []).append(row["question"])
    return found


def measure(model: Any, task: str, questions: list[str], data: Path, limit: int) -> dict[str, Any]:
    """Ask one task's questions of held-out faces."""
    samples = samples_of(ASKED_OF[task], data, limit, lambda _: True)
    usual = [] if task == "unknown" else [canonical_question(task)]
    said = [
        [answer.text for answer in answers]
        for answers in model.ask(
            [sample.image for sample in samples], [*usual, *questions], on_no_face="whole"
        )
    ]
    if task == "unknown":
        texts = [text for row in said for text in row]
        return {"questions": len(questions), "n": len(texts), "declined": _share(t == UNKNOWN for t in texts)}
    found: dict[str, Any] = {"questions": len(questions), "n": len(samples) * len(questions)}
    if task == "description":
        found["answered"] = _share(
            len(text.split()) > 3 and text != UNKNOWN for row in said for text in row[1:]
        )
        return found
    (reader,) = supported_tasks(samples, ["age" if task == "age_bin" else task])
    labels = [[_label(reader, text) for text in row] for row in said]
    given = [label for row in labels for label in row[1:]]
    found["answered"] = _share(label is not None for label in given)
    found["agrees"] = _share(_near(task, label, row[0]) for row in labels for label in row[1:])
    truths = [reader.truth(sample, Question(canonical_question(task))) for sample in samples]
    for name, columns in (("usual", slice(0, 1)), ("others", slice(1, None))):
        pairs = [
            (truth, label)
            for truth, row in zip(truths, labels, strict=True)
            for label in row[columns]
            if truth is not None and label is not None
        ]
        scores = reader.scores([truth for truth, _ in pairs], [label for _, label in pairs])
        found[f"score_{name}"] = round(float(sum(scores) / len(scores)), 4) if pairs else None
    return found


def _label(reader: EvalTask, text: str) -> Any:
    parsed = reader.read(text)
    return reader.prediction(parsed.label) if parsed.outcome == "answer" else None


def _near(task: str, label: Any, usual: Any) -> bool:
    if label is None or usual is None:
        return False
    if task not in NEAR:
        return bool(label == usual)
    if isinstance(usual, dict):
        return set(label) == set(usual) and all(
            abs(label[axis] - usual[axis]) <= NEAR[task] for axis in usual
        )
    return bool(abs(label - usual) <= NEAR[task])


def _share(holds: Any) -> float:
    values = list(holds)
    return round(sum(values) / len(values), 4)


def main() -> None:
    """Ask everything and write the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="facemllm-tiny")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--limit", type=int, default=30, help="faces a task")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "wordings.json")
    options = parser.parse_args()
    model = AutoFaceMLLM.from_pretrained(options.model)
    tasks = {
        task: measure(model, task, questions, options.data, options.limit)
        for task, questions in read_questions().items()
    }
    found = {"model": Path(options.model).name, "faces_a_task": options.limit, "tasks": tasks}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
