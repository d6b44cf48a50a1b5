"""What stops a run that would waste its time, with the cause and the name of the sample.

A loss that goes down proves little: it does so with answers masked out, with half a picture cut off, or
with a part that gets no gradient. Each guard looks for one such thing, in every batch or in the first steps,
and costs next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from facemllm.core.errors import TrainingError
from facemllm.processing.template import IGNORE
from facemllm.training.batches import Pairs
from facemllm.training.parallel import Processes

GRADIENT_STEPS = 10
"""A part must have got a gradient by then; adapters and gates that start at zero need a step or two."""

COLLAPSED = 1e-9
"""Variance from picture to picture over the mean square, below which all pictures look the same."""


class Guards:
    """The guards of a phase.

    Args:
        image_tokens: N, the tokens of a picture; none where there are no pictures.
        longest: The most tokens the language model has positions for.
    """

    def __init__(self, *, image_tokens: int | None = None, longest: int | None = None) -> None:
        self.image_tokens, self.longest = image_tokens, longest
        self.suspect: str | None = None
        self._reached: dict[str, bool] = {}
        self._first: int | None = None

    # --- the batch

    def batch(self, drawn: Sequence[Pairs]) -> None:
        """Look at a step's pairs before the model does.

        Raises:
            TrainingError: If an answer is masked out, or image tokens are missing, or do not fit in.
        """
        for pairs in drawn:
            for number, encoded in enumerate(pairs.encoded):
                where = f"sample {pairs.sample!r}, pair {number + 1} ({pairs.tasks[number]})"
                if max(encoded.labels, default=IGNORE) == IGNORE:
                    raise TrainingError(
                        "an answer is masked out",
                        given=f"{where}: none of its {len(encoded)} tokens is to be learnt",
                        expected="at least the answer's end of turn",
                        do="check the chat template and whatever shortens texts; answers must not be cut off",
                    )
                if self.image_tokens is not None and sum(encoded.image_mask) != self.image_tokens:
                    raise TrainingError(
                        "image tokens are truncated",
                        given=f"{where}: {sum(encoded.image_mask)} image tokens of {len(encoded)}",
                        expected=f"{self.image_tokens}, as many as the connector gives",
                        do="do not shorten texts with pictures; ask fewer or shorter questions",
                    )
                if self.longest is not None and len(encoded) > self.longest:
                    raise TrainingError(
                        "a chat is longer than the language model reads",
                        given=f"{where}: {len(encoded)} tokens",
                        expected=f"at most {self.longest}",
                        do="shorten it, or use a connector with fewer output tokens",
                    )
            if not torch.isfinite(pairs.picture).all():
                raise TrainingError(
                    "a picture is not finite",
                    given=f"sample {pairs.sample!r}: {_strange(pairs.picture)} of its numbers are not",
                    expected="finite pixels or features",
                    do="look at this picture, and at the encoder's precision; then delete the cache",
                )

    def features(self, features: Tensor | None, samples: Sequence[str]) -> None:
        """Look at what the language model gets to see of different pictures [P, N, D].

        Raises:
            TrainingError: If it is the same for all.
        """
        if features is None or len(set(samples)) < 2:
            return
        values = features.detach().float()
        spread, size = values.var(0, correction=0).mean(), values.square().mean()
        if bool(torch.isfinite(spread)) and float(spread) <= COLLAPSED * float(size):
            raise TrainingError(
                "features have collapsed",
                given=f"the same {tuple(values.shape[1:])} features for {len(set(samples))} different "
                f"pictures, such as {samples[0]!r} and {next(s for s in samples if s != samples[0])!r}",
                expected="features that differ from picture to picture",
                do="check the encoder's weights and normalisation; lower the learning rate of what trains",
            )

    def tokens(self, losses: Tensor, samples: Sequence[str], pairs: Tensor) -> None:
        """Remember whose answer it is whose loss is not finite, for :meth:`loss` to name.

        Args:
            losses: Of the tokens [M].
            samples: Of each pair.
            pairs: The pair of each token [M].
        """
        strange = ~torch.isfinite(losses.detach())
        if self.suspect is None and bool(strange.any()):
            number = int(pairs[strange][0])
            self.suspect = f"sample {samples[number]!r}, {int(strange.sum())} of {len(losses)} answer tokens"

    # --- the step

    def loss(self, loss: Tensor, *, phase: str, step: int, processes: Processes) -> None:
        """Look at the loss, which is the same in all processes.

        Raises:
            TrainingError: If it is not finite.
        """
        if math.isfinite(float(loss)):
            return
        suspects = [found for found in processes.gather(self.suspect) if found]
        at = f", first at {'; '.join(suspects)}" if suspects else ""
        raise TrainingError(
            "loss is not finite",
            given=f"{float(loss)} in step {step} of {phase!r}{at}",
            expected="a number",
            do="lower its learning rate, or look at that sample; the last checkpoint is intact",
        )

    def graph(self, loss: Tensor, groups: Sequence[Mapping[str, Any]], *, phase: str) -> None:
        """Look whether a loss depends on anything that trains.

        Raises:
            TrainingError: If it does not.
        """
        if not loss.requires_grad:
            parts = dict.fromkeys(_part(number, group) for number, group in enumerate(groups))
            raise TrainingError(
                f"no gradient reaches {', '.join(map(repr, parts))}",
                given=f"the loss of {phase!r}, which does not depend on it",
                expected="a loss that depends on what is to train",
                do="name in `train` what the answers depend on, and set requires_grad",
            )

    def gradients(
        self,
        groups: Sequence[Mapping[str, Any]],
        *,
        phase: str,
        step: int,
        last: bool,
        processes: Processes,
    ) -> None:
        """Look whether a gradient reaches each part, in the first steps of a process.

        Raises:
            TrainingError: If nothing is to train, or a part gets no gradient.
        """
        if not self._reached:
            self._reached = {_part(number, group): False for number, group in enumerate(groups)}
            self._first = step
            if not any(p.requires_grad for group in groups for p in group["params"]):
                raise TrainingError(
                    "nothing trains",
                    given=f"phase {phase!r}, in which every parameter is frozen",
                    expected="at least one part that trains",
                    do="name a part in the stage's `train`",
                )
        if all(self._reached.values()):
            return
        for number, group in enumerate(groups):
            part = _part(number, group)
            if not self._reached[part]:
                self._reached[part] = any(_flows(parameter.grad) for parameter in group["params"])
        if processes.count > 1:
            found = processes.sum(torch.tensor([float(value) for value in self._reached.values()]))
            self._reached = dict(zip(self._reached, (found > 0).tolist(), strict=True))
        missing = [part for part, reached in self._reached.items() if not reached]
        if missing and (last or step - (self._first or 0) + 1 >= GRADIENT_STEPS):
            raise TrainingError(
                f"no gradient reaches {', '.join(map(repr, missing))}",
                given=f"{step - (self._first or 0) + 1} steps of {phase!r} in which each was zero or missing",
                expected="a gradient in each part that is to train",
                do="leave the part out of `train` if the loss does not depend on it, or look for a detach()",
            )

    def norm(self, norm: float, *, phase: str, step: int) -> None:
        """Look at the norm of the gradient before the weights are changed.

        Raises:
            TrainingError: If it is not finite.
        """
        if not math.isfinite(norm):
            raise TrainingError(
                "gradient is not finite",
                given=f"a norm of {norm} in step {step} of {phase!r}, of a finite loss",
                expected="a number",
                do="lower the learning rate, or use precision float32; the last checkpoint is intact",
            )


@torch.no_grad()
def check_connector(model: Any) -> None:
    """Try a connector on features of zeros.

    Raises:
        TrainingError: If it gives other tokens than the language model and the tokenizer count on.
    """
    width = model.get_input_embeddings().embedding_dim
    weight = next(model.connector.parameters())
    features = torch.zeros(
        1, model.encoder.num_tokens, model.encoder.embed_dim, dtype=weight.dtype, device=weight.device
    )
    expected = (1, model.config.image_tokens, width)
    try:
        found: Any = tuple(model.connector(features).shape)
    except RuntimeError as error:
        found = str(error).partition("\n")[0]
    if found != expected:
        raise TrainingError(
            "the connector does not fit",
            given=f"{found} for features {tuple(features.shape)}",
            expected=f"{expected}: {expected[1]} tokens a picture of the language model's width",
            do="build it with in_dim=encoder.embed_dim and out_dim=llm.embed_dim",
        )


def _part(number: int, group: Mapping[str, Any]) -> str:
    return str(group.get("part", f"group {number + 1}"))


def _flows(gradient: Tensor | None) -> bool:
    if gradient is None:
        return False
    local = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return bool(local.any())


def _strange(values: Tensor) -> str:
    return f"{int((~torch.isfinite(values)).sum())} of {values.numel()}"
