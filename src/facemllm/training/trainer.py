"""The trainer: pretraining where parts have no weights, then the stages."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from facemllm.core.errors import CheckpointError, ConfigError, DatasetError, TrainingError
from facemllm.data import Dataset, read_dataset, stream_dataset
from facemllm.language.quantize import dequantize
from facemllm.model import FaceMLLM
from facemllm.training.assemble import assemble
from facemllm.training.crops import CropSet
from facemllm.training.features import FeatureSet, PixelSet, encode_views
from facemllm.training.files import write_note
from facemllm.training.guards import check_connector
from facemllm.training.loop import Keeping
from facemllm.training.parallel import Processes
from facemllm.training.plan import HEADINGS, Plan
from facemllm.training.precision import cast, check_parts
from facemllm.training.progress import RunLog
from facemllm.training.recipe import DataSource, Stage, ThreeStageRecipe
from facemllm.training.shards import crops_of
from facemllm.training.stage_run import run_stage
from facemllm.training.trackers import start_trackers


class Trainer:
    """Runs a recipe.

    Args:
        model: The model to train; None to build it as the recipe says.
        recipe: What to do.
        output_dir: Where logs, checkpoints and the model go.
        data_root: Folder with a folder for each dataset; ``FACEMLLM_DATA`` when left out.
        detector: Name or instance of a face detector.
        progress: Whether to show bars and tables.
        keeping: Which checkpoints of the stages are made and kept.
        hooks: Called with the (wrapped) model and the stage when its held-out part is measured; each returns
            numbers by name. Every process calls them together.
        trackers: Names of accelerate's trackers, such as "tensorboard", "wandb" or "trackio".

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
        keeping: Keeping | None = None,
        hooks: Sequence[Callable[[Any, Stage], Mapping[str, float]]] = (),
        trackers: Sequence[str] = (),
    ) -> None:
        self.processes = Processes()
        self.keeping, self.hooks = keeping or Keeping(), tuple(hooks)
        self.trackers = tuple(trackers)
        self.model, self.recipe = model, recipe
        self.out = Path(output_dir)
        root = data_root or os.environ.get("FACEMLLM_DATA")
        self.root = Path(root) if root else None
        self.detector, self.progress = detector, progress and self.processes.main
        self.log = RunLog(self.out / "log.jsonl", enabled=self.processes.main)
        self._crops: dict[tuple[str, str, str], tuple[DataSource, CropSet]] = {}
        self._encoded: dict[tuple[tuple[str, str, str], int | None], FeatureSet] = {}

    def fit(self, *, resume: bool = False) -> FaceMLLM:
        """Run all phases and save the model to ``output_dir/model``.

        Args:
            resume: Go on from what an earlier run left in ``output_dir``.

        Raises:
            TrainingError: If ``output_dir`` holds another run, the loss is not finite, or a stage did not
                train what it says.
        """
        self._check_sources()
        self.processes.agree(lambda: self._claim(resume) if self.processes.main else None)
        if self.processes.main:
            self.log.trackers = start_trackers(
                self.trackers, self.out, {"name": self.recipe.name, "seed": self.recipe.seed}
            )
        torch.manual_seed(self.recipe.seed)
        model = self.model or assemble(self)
        self.model = model
        check_connector(model)
        for stage in self.recipe.stages:
            check_parts(model, stage)
        for index, stage in enumerate(self.recipe.stages):
            run_stage(self, index, stage, model)
        model.config.answer_tasks = sorted({task for stage in self.recipe.stages for task in stage.tasks})
        model.config.training_data = self._training_data()
        dequantize(model.language_model)
        cast(model.eval(), getattr(torch, self.recipe.save_dtype))  # what is returned is what is saved
        self.processes.agree(lambda: self._save(model) if self.processes.main else None)
        for tracker in self.log.trackers:
            tracker.close()
        cast(model, torch.float32)
        return model

    def crops(self, source: DataSource) -> CropSet:
        """Return the face crops of a data source."""
        key = source.key
        if key not in self._crops:
            dataset = self.samples(source)
            if self.progress and dataset.skipped.total:
                self.say(str(dataset.skipped))
            crops = crops_of(
                source.name,
                dataset.samples,
                self.checked_model.checked_processor(),
                cache=self.out / "cache",
                processes=self.processes,
                detector=self.detector,
                progress=self.progress,
            )
            self._crops[key] = (source, crops)
        return self._crops[key][1].limited(source.limit, self.recipe.seed)

    def samples(self, source: DataSource) -> Dataset:
        """Return the samples of a data source, whose pictures are not opened.

        Raises:
            DatasetError: See :meth:`folder`; or if a split is empty.
        """
        return read_dataset(source.dataset, self.folder(source), split=source.split)

    def _check_sources(self) -> None:
        """Find all data before anything is trained: the last stage's may be missing, too."""
        recipe = self.recipe
        phases: list[Any] = [*recipe.stages]
        if recipe.encoder_phase is not None and self.model is None:
            phases.append(recipe.encoder_phase)
        phases += [stage.held_out for stage in recipe.stages if stage.held_out is not None]
        for source in {source.key: source for phase in phases for source in phase.data}.values():
            stream_dataset(source.dataset, self.folder(source), source.split)  # nothing is read yet

    def folder(self, source: DataSource) -> Path:
        """Return where a data source is looked for.

        Raises:
            TrainingError: If its folder is below the data root and there is none.
            DatasetError: If its folder is not there, or not laid out as its reader expects.
        """
        own = Path(source.path or "").expanduser()
        root = own if own.is_absolute() else self.data_root() / own
        if source.path is not None and not root.is_dir():
            raise DatasetError(
                f"cannot find the folder of a data source of the recipe, {source.dataset}",
                given=f"path: {source.path}, which is {root}",
                expected="a folder below the data root (--data), or an absolute path",
                do="correct `path` in the recipe",
            )
        return root

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

    def pictures(self, source: DataSource, model: FaceMLLM, trains_encoder: bool) -> FeatureSet | PixelSet:
        """Return what a stage draws the pictures of a source from."""
        processor = model.checked_processor()
        look: dict[str, Any] = {
            "size": processor.image_size,
            "mean": processor.image_mean,
            "std": processor.image_std,
        }
        if trains_encoder:
            self.forget_features()  # they are of the encoder as it was
            return PixelSet(self.crops(source), **look)
        key = (source.key, source.limit)
        if key not in self._encoded:
            crops = self.crops(source)
            model.encoder.to(self.processes.device)
            self._encoded[key] = self.processes.first(
                lambda: encode_views(
                    model.encoder,
                    crops,
                    views=self.recipe.views,
                    cache=self.out / "cache",
                    seed=self.recipe.seed,
                    progress=self.progress,
                    **look,
                )
            )
        return self._encoded[key]

    def forget_features(self) -> None:
        """Look for kept features anew: the encoder is not what it was."""
        self._encoded.clear()

    # --- what is said and kept

    def _claim(self, resume: bool) -> None:
        resolved = yaml.safe_dump(self.recipe.model_dump(mode="json"), sort_keys=False)
        kept = self.out / "recipe.yaml"
        begun = any((self.out / name).exists() for name in ("log.jsonl", "stages", "encoder", "language"))
        if kept.is_file() and begun:  # where nothing was begun, a start that failed left its recipe
            if not resume:
                raise TrainingError(
                    "output folder holds a run already",
                    given=self.out,
                    expected="an empty folder",
                    do="pass --resume to go on with it, or another folder",
                )
            if kept.read_text() != resolved and not self._same(kept):
                raise TrainingError(
                    "output folder holds a run of another recipe",
                    given=f"{kept} differs from the recipe given",
                    expected="the same recipe to resume",
                    do=f"train with {kept}, or choose another folder",
                )
        write_note(kept, resolved)

    def _same(self, kept: Path) -> bool:
        """Whether a file holds this recipe, written when some options were not there yet."""
        try:
            return ThreeStageRecipe.load(kept) == self.recipe
        except ConfigError:
            return False

    def _training_data(self) -> list[dict[str, Any]]:
        counted = Counter(
            # Records keep the dataset that they were written from.
            (key, sample.dataset, sample.licence)
            for key in sorted(self._crops)
            for sample in self._crops[key][1].samples
        )
        return [
            {"dataset": name, "split": split, "samples": count, "licence": licence}
            | ({"path": Path(path).name} if path else {})
            for ((_, path, split), name, licence), count in counted.items()
        ]

    def say(self, text: str) -> None:
        """Say something to whoever watches."""
        if self.progress:
            from rich.console import Console

            Console(stderr=True).print(text, highlight=False, markup=False)

    def say_plan(self, title: str, plan: Plan) -> None:
        """Show what a stage will do."""
        if self.progress:
            from rich.box import SIMPLE
            from rich.console import Console
            from rich.table import Table

            table = Table(*HEADINGS, box=SIMPLE, padding=0, title=title, caption=plan.estimates())
            for row in plan.rows():
                table.add_row(*row)
            Console(stderr=True).print(table)

    def _save(self, model: FaceMLLM) -> None:
        """Write the model beside the old one, then put it in its place."""
        fresh, place, old = (self.out / name for name in (".model.new", "model", ".model.old"))
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            model.save_pretrained(fresh)
            if place.exists():
                place.rename(old)
            fresh.rename(place)
        except OSError as error:
            raise CheckpointError(
                "cannot save the model",
                given=f"{place} ({error})",
                expected="room on the disk, and the right to write there",
                do="make room, then go on with resume=True; the checkpoints of the stages are intact",
            ) from error
        shutil.rmtree(old, ignore_errors=True)
