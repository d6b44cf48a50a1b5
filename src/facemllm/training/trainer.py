"""The trainer: pretraining where parts have no weights, then the stages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from facemllm.core.errors import TrainingError
from facemllm.data import read_dataset
from facemllm.language import number_token_ids
from facemllm.model import FaceMLLM
from facemllm.training.assemble import assemble
from facemllm.training.checkpoints import load_checkpoint
from facemllm.training.crops import CropSet, crop_dataset
from facemllm.training.estimates import Estimates
from facemllm.training.features import FeatureSet, PixelSet, encode_views
from facemllm.training.freezing import fingerprints, select, verify
from facemllm.training.loop import run_steps
from facemllm.training.losses import answer_loss
from facemllm.training.progress import RunLog
from facemllm.training.questions import StageData
from facemllm.training.recipe import DataSource, Stage, ThreeStageRecipe


class Trainer:
    """Runs a recipe.

    Args:
        model: The model to train; None to build it as the recipe says.
        recipe: What to do.
        output_dir: Where logs, checkpoints and the model go.
        data_root: Folder with a folder for each dataset; ``FACEMLLM_DATA`` when left out.
        detector: Name or instance of a face detector.
        progress: Whether to show bars and tables.

    Example:
        >>> from facemllm import ThreeStageRecipe, Trainer
        >>> trainer = Trainer(None, ThreeStageRecipe.load("tiny"), output_dir="runs/tiny")
        >>> trainer.fit(resume=True)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: FaceMLLM | None,
        recipe: ThreeStageRecipe,
        *,
        output_dir: str | Path,
        data_root: str | Path | None = None,
        detector: Any = "centerface",
        progress: bool = True,
    ) -> None:
        self.model, self.recipe = model, recipe
        self.out = Path(output_dir)
        root = data_root or os.environ.get("FACEMLLM_DATA")
        self.root = Path(root) if root else None
        self.detector, self.progress = detector, progress
        self.log = RunLog(self.out / "log.jsonl")
        self._crops: dict[tuple[str, str], CropSet] = {}
        self._encoded: dict[tuple[str, str, int | None], FeatureSet] = {}

    def fit(self, *, resume: bool = False) -> FaceMLLM:
        """Run all phases and save the model to ``output_dir/model``.

        Args:
            resume: Go on from what an earlier run left in ``output_dir``.

        Raises:
            TrainingError: If ``output_dir`` holds another run, the loss is not finite, or a stage did not
                train what it says.
        """
        self._claim(resume)
        torch.manual_seed(self.recipe.seed)
        model = self.model or assemble(self)
        self.model = model
        for index, stage in enumerate(self.recipe.stages):
            self._run_stage(index, stage, model)
        model.config.answer_tasks = sorted({task for stage in self.recipe.stages for task in stage.tasks})
        model.config.training_data = self._training_data()
        model.eval().to(getattr(torch, self.recipe.save_dtype))  # what is returned is what is saved
        model.save_pretrained(self.out / "model")
        return model.float()

    def crops(self, source: DataSource) -> CropSet:
        """Return the face crops of a data source."""
        key = (source.dataset, source.split)
        if key not in self._crops:
            dataset = read_dataset(source.dataset, self.data_root(), split=source.split)
            if self.progress and dataset.skipped.total:
                self._say(str(dataset.skipped))
            self._crops[key] = crop_dataset(
                f"{source.dataset}-{source.split}",
                dataset.samples,
                self.checked_model.checked_processor(),
                cache=self.out / "cache",
                detector=self.detector,
                progress=self.progress,
            )
        return self._crops[key].limited(source.limit, self.recipe.seed)

    def data_root(self) -> Path:
        """Return the folder of the datasets' folders.

        Raises:
            TrainingError: If there is none.
        """
        if self.root is None:
            raise TrainingError(
                "no data to train on",
                given="neither data_root nor FACEMLLM_DATA",
                expected="a folder that holds the datasets' folders",
                do="pass --data ROOT",
            )
        return self.root

    @property
    def checked_model(self) -> FaceMLLM:
        """The model, once it is there."""
        if self.model is None:
            raise TrainingError("no model yet", given="None", expected="a FaceMLLM", do="call fit()")
        return self.model

    # --- one stage

    def _run_stage(self, index: int, stage: Stage, model: FaceMLLM) -> None:
        folder = self.out / "stages" / f"{index + 1}-{stage.name}"
        selection = select(model, stage.train)
        self._table(
            f"Stage {index + 1} of {len(self.recipe.stages)}: {stage.name} trains", selection.table(model)
        )
        done = load_checkpoint(folder / "checkpoint")
        before = done[0]["before"] if done else fingerprints(model)
        if done and done[0]["step"] >= stage.steps:
            model.load_state_dict(done[1]["model"])
            return
        trains_encoder = any(
            name.startswith("encoder.") for names in selection.names.values() for name in names
        )
        data = StageData(
            [self._pictures(source, model, trains_encoder) for source in stage.data],
            [source.weight for source in stage.data],
            stage,
            model.checked_processor(),
            self.recipe.seed,
            estimates=Estimates(dict(model.heads.items()))
            if len(model.heads) and not trains_encoder
            else None,
        )
        numbers = number_token_ids(model.checked_processor().tokenizer)
        parameters = dict(model.named_parameters())

        packs = not model.plain_reasons

        def loss_of(wrapped: nn.Module, step: int) -> Tensor:
            batch = data.batch(step, packs=packs).to(model.device)
            batch = batch.without_channels(stage.feature_dropout)
            ages = torch.tensor([task == "age" for task in batch.tasks], device=model.device)
            return answer_loss(
                batch.logits(wrapped),
                batch.targets,
                ordered=ages[batch.pairs],
                numbers=numbers,
                spread=stage.age_spread,
            )

        model.train()
        for part in ("encoder", "heads"):  # what does not train must not drop features at random either
            if not any(name.startswith(f"{part}.") for names in selection.names.values() for name in names):
                getattr(model, part).eval()
        run_steps(
            model,
            loss_of,
            name=stage.name,
            groups=[
                {"params": [parameters[name] for name in names], "lr": stage.lr[part]}
                for part, names in selection.names.items()
            ],
            steps=stage.steps,
            folder=folder / "checkpoint",
            log=self.log,
            seed=self.recipe.seed * 31 + index,
            warmup=stage.warmup,
            weight_decay=stage.weight_decay,
            clip=stage.clip,
            precision=stage.precision,
            extra={"before": before},
            progress=self.progress,
        )
        model.eval()
        movement = verify(before, model, selection)
        (folder / "movement.yaml").write_text(
            yaml.safe_dump({"moved": list(movement.moved), "still": list(movement.still)})
        )
        self._say(f"{stage.name}: {len(movement.moved)} tensors moved, {len(movement.still)} did not")

    def _pictures(self, source: DataSource, model: FaceMLLM, trains_encoder: bool) -> FeatureSet | PixelSet:
        processor = model.checked_processor()
        look: dict[str, Any] = {
            "size": processor.image_size,
            "mean": processor.image_mean,
            "std": processor.image_std,
        }
        if trains_encoder:
            self._encoded.clear()  # they are of the encoder as it was
            return PixelSet(self.crops(source), **look)
        key = (source.dataset, source.split, source.limit)
        if key not in self._encoded:
            self._encoded[key] = encode_views(
                model.encoder,
                self.crops(source),
                views=self.recipe.views,
                cache=self.out / "cache",
                seed=self.recipe.seed,
                progress=self.progress,
                **look,
            )
        return self._encoded[key]

    # --- what is said and kept

    def _claim(self, resume: bool) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        resolved = yaml.safe_dump(self.recipe.model_dump(mode="json"), sort_keys=False)
        kept = self.out / "recipe.yaml"
        if kept.is_file():
            if not resume:
                raise TrainingError(
                    "output folder holds a run already",
                    given=self.out,
                    expected="an empty folder",
                    do="pass --resume to go on with it, or another folder",
                )
            if kept.read_text() != resolved:
                raise TrainingError(
                    "output folder holds a run of another recipe",
                    given=f"{kept} differs from the recipe given",
                    expected="the same recipe to resume",
                    do=f"train with {kept}, or choose another folder",
                )
        kept.write_text(resolved)

    def _training_data(self) -> list[dict[str, Any]]:
        return [
            {"dataset": name, "split": split, "samples": len(crops), "licence": crops.samples[0].licence}
            for (name, split), crops in sorted(self._crops.items())
        ]

    def _say(self, text: str) -> None:
        if self.progress:
            from rich.console import Console

            Console(stderr=True).print(text, highlight=False, markup=False)

    def _table(self, title: str, rows: list[tuple[str, int, int]]) -> None:
        if self.progress:
            from rich.console import Console
            from rich.table import Table

            table = Table("part", "tensors", "parameters", title=title)
            for part, tensors, parameters in rows:
                table.add_row(part, str(tensors), f"{parameters:,}")
            Console(stderr=True).print(table)
