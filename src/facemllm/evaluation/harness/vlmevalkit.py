"""Our tasks and models in VLMEvalKit, which has no plug-ins: they are registered in the process that runs it.

    python -m facemllm.evaluation.harness.vlmevalkit --data NAME --model facemllm-tiny --work-dir out

does that and hands over to VLMEvalKit's own ``vlmeval.run``; its arguments are VLMEvalKit's. A task is
``NAME.tsv`` and ``NAME.rows.jsonl`` in the folder that the variable ``LMUData`` names. The TSV alone works
without this package too: VLMEvalKit then asks the questions and leaves the scoring to you.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from facemllm.core.errors import ConfigError, DatasetError, MissingExtraError
from facemllm.data import FaceSample
from facemllm.evaluation.harness.rows import MAX_NEW_TOKENS, make_rows, score_rows
from facemllm.evaluation.tasks import EvalTask

_COLUMNS = ("index", "image_path", "question", "answer", "attribute")
_ROWS = ".rows.jsonl"


def write_vlmevalkit_task(
    samples: Iterable[FaceSample], task: EvalTask, folder: str | Path, name: str
) -> Path:
    """Write a task for VLMEvalKit and return its TSV.

    Args:
        samples: Labelled faces of one dataset.
        task: What to ask about them.
        folder: The folder that ``LMUData`` will name; made if missing.
        name: What VLMEvalKit calls it; letters, digits, dots, dashes and underscores.

    Raises:
        ConfigError: If the name cannot be a file's.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConfigError(
            "cannot write a task for VLMEvalKit",
            given=f"name {name!r}",
            expected="letters, digits, dots, dashes and underscores",
            do="choose another name",
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.tsv"
    with (
        path.open("w", encoding="utf-8", newline="") as table,
        (folder / (name + _ROWS)).open("w", encoding="utf-8") as rows,
    ):
        writer = csv.writer(table, delimiter="\t")
        writer.writerow(_COLUMNS)
        for index, row in enumerate(make_rows(samples, task)):
            writer.writerow([index, row["image"], row["question"], row["answer"], row["attribute"]])
            rows.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def score_predictions(rows_file: str | Path, predictions: Mapping[int, str]) -> dict[str, Any]:
    """Return what our report says about a task, from its rows and the answers by index.

    Raises:
        DatasetError: If there are answers to other questions, or not to all.
    """
    rows = [json.loads(line) for line in Path(rows_file).read_text(encoding="utf-8").split("\n") if line]
    if set(predictions) != set(range(len(rows))):
        raise DatasetError(
            "answers do not fit the task",
            given=f"{len(predictions)} answers to {len(rows)} questions of {Path(rows_file).name}",
            expected="one answer to each question",
            do="let VLMEvalKit finish, or write the task anew",
        )
    return score_rows([(row, predictions[index]) for index, row in enumerate(rows)])


def register_vlmevalkit(models: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Make our models and tasks known to the VLMEvalKit of this process.

    Args:
        models: Name to arguments of the model (``pretrained``, ``crop``, ``device``); by default
            ``facemllm-tiny``.

    Raises:
        MissingExtraError: If VLMEvalKit is not installed.
    """
    try:
        import vlmeval.config
        import vlmeval.dataset
        import vlmeval.vlm
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            error.name or "vlmeval", extra="vlmevalkit", needed_for="VLMEvalKit"
        ) from None
    model, dataset = _model_class(vlmeval.vlm.BaseModel), _dataset_class(vlmeval.dataset.ImageBaseDataset)
    vlmeval.vlm.FaceMLLM = model
    vlmeval.dataset.FaceTask = dataset
    vlmeval.dataset.DATASET_CLASSES.insert(0, dataset)
    for name, options in (models or {"facemllm-tiny": {}}).items():
        vlmeval.config.supported_VLM[name] = partial(model, **({"pretrained": name} | dict(options)))


def _model_class(base: type) -> type:
    class FaceMLLM(base):  # type: ignore[misc]
        """A FaceMLLM behind VLMEvalKit's interface."""

        INTERLEAVE = False

        def __init__(
            self,
            pretrained: Any = "facemllm-tiny",
            crop: str | None = None,
            device: str | None = None,
            **_: Any,
        ) -> None:
            super().__init__()
            if isinstance(pretrained, str):
                import torch

                from facemllm import AutoFaceMLLM

                where = device or ("cuda" if torch.cuda.is_available() else "cpu")
                pretrained = AutoFaceMLLM.from_pretrained(pretrained)
                pretrained.to(where)
            self.model = pretrained
            self.options = {"on_no_face": "whole"} | ({"crop": crop} if crop else {})

        def generate_inner(self, message: Sequence[Mapping[str, str]], dataset: str | None = None) -> str:
            picture, question = split_message(message, dataset)
            answer = self.model.ask(picture, question, max_new_tokens=MAX_NEW_TOKENS, **self.options)
            return str(getattr(answer, "text", answer))

    return FaceMLLM


def split_message(message: Sequence[Mapping[str, str]], dataset: str | None = None) -> tuple[str, str]:
    """Return the picture and the question of a message.

    Raises:
        ConfigError: If it has no picture, or several.

    Example:
        >>> split_message([{"type": "image", "value": "a.jpg"}, {"type": "text", "value": "Who?"}])
        ('a.jpg', 'Who?')
    """
    pictures = [part["value"] for part in message if part["type"] == "image"]
    if len(pictures) != 1:
        raise ConfigError(
            "cannot show these pictures",
            given=f"{dataset}: {len(pictures)} pictures for a question",
            expected="one picture a question",
            do="leave this dataset out",
        )
    return pictures[0], "\n".join(part["value"] for part in message if part["type"] == "text")


def _dataset_class(base: type) -> type:
    class FaceTask(base):  # type: ignore[misc]
        """The tasks that :func:`write_vlmevalkit_task` wrote, found in the folder of VLMEvalKit's data."""

        TYPE, MODALITY = "VQA", "IMAGE"

        @classmethod
        def supported_datasets(cls) -> list[str]:
            return sorted(path.name.removesuffix(_ROWS) for path in _root().glob("*" + _ROWS))

        def load_data(self, dataset: str) -> Any:
            import pandas as pd

            return pd.read_csv(_root() / f"{dataset}.tsv", sep="\t", dtype=str, keep_default_na=False)

        def evaluate(self, eval_file: str, **judge: Any) -> dict[str, Any]:
            import pandas as pd
            from vlmeval.smp import load

            table = load(eval_file)
            said = {
                int(index): "" if pd.isna(text) else str(text)
                for index, text in zip(table["index"], table["prediction"], strict=True)
            }
            result = score_predictions(_root() / (self.dataset_name + _ROWS), said)
            out = Path(eval_file).with_suffix("").with_name(Path(eval_file).stem + "_facemllm.json")
            out.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
            return {key: value for key, value in result.items() if isinstance(value, (int, float))}

    return FaceTask


def _root() -> Path:
    given = os.environ.get("LMUData")  # noqa: SIM112 - VLMEvalKit spells it so
    return Path(given or Path.home() / "LMUData")


def main() -> None:
    """Register, and run VLMEvalKit with the arguments given; a model may also be ``NAME=FOLDER``."""
    import sys

    names: dict[str, dict[str, Any]] = {"facemllm-tiny": {}}
    for place, argument in enumerate(sys.argv):
        name, equals, folder = argument.partition("=")
        if equals and not name.startswith("-"):
            names[name] = {"pretrained": folder}
            sys.argv[place] = name
    register_vlmevalkit(names)
    from vlmeval.run import main as run

    run()


if __name__ == "__main__":
    main()
