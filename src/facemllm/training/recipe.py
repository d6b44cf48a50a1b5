"""A training recipe as data: what is built, what each stage trains, on what, and for how long.

The paper gives the three stages but neither learning rates nor what is frozen when. The defaults follow
LLaVA-1.5 in spirit (connector first, then connector and language model) and are our assumption.

Source: arXiv 2410.20717 (three stages); arXiv 2310.03744 (LLaVA-1.5, defaults).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from facemllm.core.config import StrictModel, load_yaml, validate
from facemllm.core.errors import ConfigError

Precision = Literal["float32", "bfloat16"]
Computing = Literal["encoder", "connector", "language_model", "heads"]
COMPUTING: tuple[Computing, ...] = get_args(Computing)
"""Parts that compute for themselves; LoRA does so in the language model, and region tokens in the encoder."""


class DataSource(StrictModel):
    """One dataset of a phase.

    Args:
        dataset: Name of its reader, as for ``facemllm questions``; ``csv`` and ``folder`` are for labels of
            one's own. Its folder is looked for under the data root.
        path: Its folder, where that has another name: below the data root, or absolute. It tells several
            folders of ``records`` (such as tar shards) apart.
        split: The split to train on.
        weight: Share of the samples drawn, relative to the other sources.
        limit: At most so many samples, drawn at random; none for all.
        tasks: In a stage, which of its tasks this source is asked about; none for all.
    """

    dataset: str
    path: str | None = Field(default=None, min_length=1)
    split: str = "train"
    weight: float = Field(default=1.0, gt=0)
    limit: int | None = Field(default=None, gt=0)
    tasks: tuple[str, ...] | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Dataset, folder and split: two sources that agree in them have the same samples."""
        return self.dataset, self.path or "", self.split

    @property
    def name(self) -> str:
        """What the source is called in records: its dataset, the folder it is in, and its split."""
        return f"{self.dataset}{'' if self.path is None else '-' + Path(self.path).name}-{self.split}"


class EncoderPhase(StrictModel):
    """Pretraining of the encoder by task heads, where no pretrained face encoder is at hand.

    Args:
        steps: Optimiser steps.
        batch_size: Images a step.
        lr: Of the encoder; heads learn at twice that rate.
        weight_decay: Of AdamW.
        ema: Decay of the averaged weights that are kept.
        batch_norm: Whether a network of convolutions alone is trained with batch norm, which is folded into
            them afterwards.
        precision: bfloat16 where the device is faster with it; weights and averages stay float32.
        early_size: Side of the pictures in the first part of the steps, smaller than the encoder's: cheaper
            steps first, the last ones at full size (progressive resizing).
        early_share: Which part of the steps that is.
        tasks: Tasks that get a head.
        data: Where the images come from.
    """

    steps: int = Field(gt=0)
    batch_size: int = Field(default=128, gt=0)
    lr: float = 6e-4
    weight_decay: float = 0.02
    ema: float = Field(default=0.998, ge=0, lt=1)
    batch_norm: bool = False
    precision: Precision = "float32"
    early_size: int | None = Field(default=None, gt=0)
    early_share: float = Field(default=0.75, ge=0, lt=1)
    tasks: tuple[str, ...] = ("expression", "age", "gender", "ethnicity", "pose")
    data: tuple[DataSource, ...]


class LanguagePhase(StrictModel):
    """Pretraining of a small language model on the text of questions, answers and captions.

    Args:
        steps: Optimiser steps.
        batch_size: Texts a step.
        lr: Peak learning rate.
        tasks: Tasks whose questions are written.
        texts: How many texts are written for the tokenizer and to train on.
        hidden_size: D, width of the language model.
        layers: Transformer blocks.
        heads: H, attention heads.
        vocab_size: Most tokens.
    """

    steps: int = Field(gt=0)
    batch_size: int = Field(default=64, gt=0)
    lr: float = 2e-3
    tasks: tuple[str, ...] = ("age", "age_bin", "attributes", "ethnicity", "expression", "gender", "pose")
    texts: int = Field(default=20_000, gt=0)
    hidden_size: int = 192
    layers: int = 4
    heads: int = 4
    vocab_size: int = 2048


class HeldOut(StrictModel):
    """Samples kept from training on which a stage measures its loss while it runs.

    Args:
        data: Datasets and their weights; of splits that no stage trains on.
        every: Steps between measurements.
        batches: How many batches are measured; the same ones each time.
        patience: End the stage after so many measurements without a better one, and go back to the best
            weights. None: go on to the last step, and keep its weights.
    """

    data: tuple[DataSource, ...] = Field(min_length=1)
    every: int = Field(default=100, gt=0)
    batches: int = Field(default=4, gt=0)
    patience: int | None = Field(default=None, gt=0)


class Stage(StrictModel):
    """One of the three stages.

    Args:
        name: What it is called in logs and folders.
        train: Parts that train: "encoder", "connector", "language_model", "lora" or "heads"; or patterns of
            parameter names such as ``language_model.model.layers.3.*``. The rest is frozen.
        ask: What is asked: "captions", "basic" (yes/no, choice and unknown questions), or "all".
        data: Datasets and their weights.
        tasks: Tasks asked about.
        steps: Optimiser steps.
        batch_size: Question-answer pairs a step.
        questions_per_image: Pairs drawn from one image.
        passes: Whether each source goes through its pictures in seeded passes, each once before any comes
            again, ``batch_size // questions_per_image`` pictures a step; else every draw is at random.
        lr: Peak learning rate of each part named in ``train``.
        weight_decay: Of AdamW; one for all, or one for each part named in ``train``.
        layer_decay: For parts with layers: what the rate is multiplied by from each layer to the one below.
        warmup: Share of the steps in which the rate rises; then it falls as a cosine to zero.
        clip: Largest norm of the gradient; of all parts together, or one for each part named in ``train``, by
            which that part's gradient is clipped for itself.
        descriptions: With "all", share of questions that ask for a description.
        task_weights: How often a task is asked about, relative to the others, each of which counts 1.
        unknown: Share of questions that have no answer in a face.
        leave_out: Beginnings of words that no question and no answer of this stage may have ("smil" for
            smile, smiling): what is to be asked without ever having been trained on.
        age_spread: Spread in years of the target around the true age: numbers are ordered, words are not.
        feature_dropout: Share of the encoder's channels that are left out at random, picture by picture,
            while it is frozen: it has seen the training faces and is surer about them than about others.
        estimated: Tasks that faces without such a label are asked about too, with what the task head says
            as the answer: one small dataset of poses does not show all faces that will be asked about.
        taught: Share of the pictures whose labels are replaced by what the task heads say: the heads teach
            (self-distillation).
        mixed: Share of the taught pictures that are blended, feature by feature and in a random proportion,
            with another picture of the same source, before the heads say what it shows. Heads are sure of
            the faces they were trained on; blends show the language model where they change their mind.
        soft_targets: Whether taught pictures teach all that a head of classes believes, where an open answer
            begins, instead of what it takes for likeliest.
        precision: bfloat16 where the device is faster with it. One for all: autocast's, and weights are
            float32 but those of frozen parts that were bfloat16 already. Or one for each of "encoder",
            "connector", "language_model" and "heads", float32 where none is named: a frozen part is then
            also *held* in it, and weights that train stay float32.
        accumulate: Parts in which the pictures of a step are computed one after the other: less memory, and
            the same gradient.
        activation_checkpointing: Whether layers are computed again in the backward pass: less memory, more
            time, and the same gradient.
        held_out: What is measured while the stage runs.
    """

    name: str
    train: tuple[str, ...] = Field(min_length=1)
    ask: Literal["captions", "basic", "all"]
    data: tuple[DataSource, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = ("expression", "age", "age_bin", "gender", "ethnicity", "pose", "attributes")
    steps: int = Field(gt=0)
    batch_size: int = Field(default=192, gt=0)
    questions_per_image: int = Field(default=2, gt=0)
    passes: bool = False
    lr: dict[str, float]
    weight_decay: float | dict[str, float] = 0.01
    layer_decay: dict[str, float] = Field(default_factory=dict)
    warmup: float = Field(default=0.03, ge=0, lt=1)
    clip: float | dict[str, float] = 1.0
    descriptions: float = Field(default=0.1, ge=0, lt=1)
    task_weights: dict[str, float] = Field(default_factory=dict)
    unknown: float = Field(default=0.08, ge=0, lt=1)
    leave_out: tuple[str, ...] = ()
    age_spread: float = Field(default=0.0, ge=0)
    feature_dropout: float = Field(default=0.0, ge=0, lt=1)
    estimated: tuple[Literal["expression", "age", "pose"], ...] = ()
    taught: float = Field(default=0.0, ge=0, le=1)
    mixed: float = Field(default=0.0, ge=0, le=1)
    soft_targets: bool = False
    precision: Precision | dict[Computing, Precision] = "float32"
    accumulate: int = Field(default=1, gt=0)
    activation_checkpointing: bool = False
    held_out: HeldOut | None = None

    @field_validator("precision", mode="before")
    @classmethod
    def _of_parts(cls, precision: Any) -> Any:
        for part in precision if isinstance(precision, Mapping) else ():
            if part not in COMPUTING:
                inside = {"lora": "language_model", "regions": "encoder"}.get(str(part))
                raise ValueError(
                    f"there is no part {part!r} to give a precision to"
                    + (f": it computes in {inside!r}" if inside else "")
                    + f"; parts are {', '.join(COMPUTING)}"
                )
        return precision

    @field_validator("layer_decay")
    @classmethod
    def _shares(cls, decays: dict[str, float]) -> dict[str, float]:
        if not all(0 < decay <= 1 for decay in decays.values()):
            raise ValueError("a layer decay is above zero and at most one")
        return decays

    @field_validator("clip")
    @classmethod
    def _above_zero(cls, clip: float | dict[str, float]) -> float | dict[str, float]:
        if not all(norm > 0 for norm in (clip.values() if isinstance(clip, dict) else (clip,))):
            raise ValueError("the largest norm of a gradient is above zero")
        return clip

    @field_validator("lr")
    @classmethod
    def _positive(cls, rates: dict[str, float]) -> dict[str, float]:
        if not all(rate > 0 for rate in rates.values()):
            raise ValueError("learning rates must be positive; to freeze a part, leave it out of `train`")
        return rates

    @model_validator(mode="after")
    def _names_fit(self) -> Stage:
        if set(self.lr) != set(self.train):
            raise ValueError(
                f"lr must name the same parts as train: {sorted(self.lr)} against {sorted(self.train)}"
            )
        if isinstance(self.clip, dict) and set(self.clip) != set(self.train):
            raise ValueError(
                f"clip must be a number or name the same parts as train: {sorted(self.clip)} against "
                f"{sorted(self.train)}"
            )
        decays = self.weight_decay if isinstance(self.weight_decay, dict) else dict.fromkeys(self.train)
        if set(decays) != set(self.train):
            raise ValueError(
                f"weight_decay must be a number or name the same parts as train: {sorted(decays)} against "
                f"{sorted(self.train)}"
            )
        if unasked := set(self.task_weights) - set(self.tasks):
            raise ValueError(f"task_weights names what is not asked about: {sorted(unasked)}")
        if not all(weight > 0 for weight in self.task_weights.values()):
            raise ValueError("task_weights are above zero; to leave a task out, leave it out of `tasks`")
        if not set(self.layer_decay) <= set(self.train):
            raise ValueError(
                f"layer_decay names what does not train: {sorted(set(self.layer_decay) - set(self.train))}"
            )
        return self

    def weight_decay_of(self, part: str) -> float:
        """Return the weight decay of a part named in ``train``."""
        return self.weight_decay[part] if isinstance(self.weight_decay, dict) else self.weight_decay

    @property
    def halved(self) -> bool:
        """Whether all of the forward pass is computed in bfloat16."""
        return self.precision == "bfloat16"

    @property
    def precisions(self) -> Mapping[str, Precision]:
        """The precision of each part that is given one of its own."""
        named = self.precision if isinstance(self.precision, dict) else {}
        return {str(part): precision for part, precision in named.items()}


class ThreeStageRecipe(StrictModel):
    """A whole run: the model's parts, optional pretraining of parts, and the stages.

    Args:
        name: Of the recipe.
        seed: Of everything random.
        encoder: Name and options, as for ``create_encoder``.
        encoder_config: Published configuration of an encoder that would be downloaded, for its shapes; as
            ``language_config``.
        connector: Name and options, as for ``create_connector``.
        heads_from: A saved FaceMLLM whose task heads are taken over. They fit where its encoder was taken
            over too; their estimates fill in labels that a dataset lacks.
        language_model: Source, as for ``load_language_model``; none when ``language_phase`` makes one.
        language_config: Published configuration of ``language_model`` (``model_type`` and sizes), from which
            its shapes are known without a download. It counts memory; training reads the real one.
        lora: Options of LoRA for the language model.
        quantize: Options of packing ``language_model`` into weights of 4 bits, as ``load_language_model``
            takes them; only LoRA trains on such weights (QLoRA). What is saved is unpacked.
        crop_scale: Side of the crop over the longer side of the face box.
        save_dtype: Of the weights on disk.
        views: Augmented views of each image whose features are kept while the encoder is frozen.
        encoder_phase: Pretraining of the encoder.
        language_phase: Pretraining of the language model.
        stages: In order; the last of the three may go on in another part, as that of ``tiny`` does.

    Example:
        >>> [stage.name for stage in ThreeStageRecipe.load("tiny").stages]
        ['alignment', 'basic-vqa', 'face-tasks', 'face-tasks-taught']
    """

    name: str
    seed: int = 0
    encoder: dict[str, Any]
    encoder_config: dict[str, Any] | None = None
    connector: dict[str, Any] = Field(default_factory=lambda: {"name": "mlp"})
    heads_from: str | None = None
    language_model: str | None = None
    language_config: dict[str, Any] | None = None
    lora: dict[str, Any] | None = None
    quantize: dict[str, Any] | None = None
    crop_scale: float = 1.1
    save_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    views: int = Field(default=2, gt=0)
    encoder_phase: EncoderPhase | None = None
    language_phase: LanguagePhase | None = None
    stages: tuple[Stage, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _packed_weights_are_frozen(self) -> ThreeStageRecipe:
        if self.quantize is not None and (self.lora is None or self.language_model is None):
            raise ValueError("quantize needs a language_model to pack and lora to train beside it")
        return self

    @classmethod
    def load(cls, name: str | Path, overrides: tuple[str, ...] = ()) -> ThreeStageRecipe:
        """Read a recipe by its name in the package or by its path.

        Raises:
            ConfigError: If there is no such recipe, or it has unknown keys or wrong values.
        """
        path = Path(name)
        if path.suffix not in (".yaml", ".yml"):
            path = Path(str(files("facemllm") / "configs" / f"{name}.yaml"))
            if not path.is_file():
                raise ConfigError(
                    "unknown recipe",
                    given=str(name),
                    expected=f"a path that ends in .yaml, or one of {', '.join(cls.names())}",
                    do="check the name",
                )
        return validate(cls, load_yaml(path, overrides), source=f"recipe {path.name}")

    @staticmethod
    def names() -> list[str]:
        """Return the names of the recipes that come with the package."""
        return sorted(
            path.name[:-5]
            for path in (files("facemllm") / "configs").iterdir()
            if path.name.endswith(".yaml")
        )
