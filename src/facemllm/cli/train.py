"""``facemllm train``: run a recipe."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a built-in recipe, or a YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes, such as stages.0.steps=50.", metavar="KEY=VALUE...")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of the datasets' folders; or set FACEMLLM_DATA.")
    ] = None,
    out: Annotated[str, typer.Option(help="Folder for logs, checkpoints and the model.")] = "runs/latest",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what is in the output folder.")
    ] = False,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints of a stage.")] = 100,
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest checkpoints are kept.")] = 2,
    tracker: Annotated[
        list[str] | None, typer.Option(help="tensorboard, wandb, trackio ...; may be repeated.")
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(
            help="Compute attention by this backend, such as eager, which trains faster in bfloat16 on a CPU."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bars and tables.")] = False,
) -> None:
    """Train a face MLLM in three stages."""
    from facemllm.ops import use_backend
    from facemllm.training import Keeping, ThreeStageRecipe, Trainer

    if quiet:
        from transformers.utils import logging

        logging.disable_progress_bar()  # of loading weights
    loaded = ThreeStageRecipe.load(recipe, tuple(overrides or ()))
    trainer = Trainer(
        None,
        loaded,
        output_dir=out,
        data_root=data,
        progress=not quiet,
        keeping=Keeping(every=checkpoint_every, last=keep),
        trackers=tuple(tracker or ()),
    )
    with use_backend(attention) if attention else nullcontext():
        trainer.fit(resume=resume)
    if trainer.processes.main:
        print(f"saved {out}/model")
