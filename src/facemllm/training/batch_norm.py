"""Batch norm for a network that has none: put in for its training, and folded away afterwards.

A network of convolutions alone is quick to run and slow to train. Batch norm mends the second and costs
nothing at inference, as it is one more factor and summand for each channel.

Of several processes each has a part of the batch, whose mean and variance are not those of the batch. Here
they are added up over all processes, also in the backward pass: statistics and gradients are those of one
process. torch has that for GPUs alone (``SyncBatchNorm``).

Source: Ioffe and Szegedy, arXiv 1502.03167; statistics of averaged weights: Izmailov et al., arXiv
1803.05407, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from facemllm.core.errors import ConfigError

MOMENTUM = 0.02  # of the running statistics; a batch of many datasets says little about one channel


class NormedConv(nn.Module):
    """A convolution with batch norm behind it.

    Args:
        conv: The convolution.
        mean: Of its outputs, one number a channel [C].
        variance: Likewise [C].

    Attributes:
        total: Adds a tensor up over the processes that share a batch; none where the batch is whole.
    """

    total: Callable[[Tensor], Tensor] | None = None

    def __init__(self, conv: nn.Conv2d, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels, momentum=MOMENTUM)
        with torch.no_grad():  # what is divided by is multiplied again: no output changes
            self.norm.running_mean.copy_(mean)  # type: ignore[union-attr]
            self.norm.running_var.copy_(variance)  # type: ignore[union-attr]
            self.norm.weight.copy_((variance + self.norm.eps).sqrt())
            self.norm.bias.copy_(mean)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] as the convolution does, normalised."""
        out = self.conv(x)
        if self.training and self.total is not None:
            with torch.autocast(x.device.type, enabled=False):
                held: Any = self.norm.running_mean
                return self._normed_by_all(out.to(held.dtype), self.total).to(out.dtype)
        normed: Tensor = self.norm(out)
        return normed

    def _normed_by_all(self, out: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
        """Normalise [B, C, H, W] by mean and variance of the parts of all processes."""
        norm: Any = self.norm
        count = total(torch.tensor(float(out[:, 0].numel()), device=out.device))
        mean = _Total.apply(out.sum((0, 2, 3)), total) / count  # type: ignore[no-untyped-call]
        centred = out - mean[:, None, None]
        variance = _Total.apply(centred.square().sum((0, 2, 3)), total) / count  # type: ignore[no-untyped-call]
        with torch.no_grad():
            norm.num_batches_tracked += 1
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
        scale = norm.weight * (variance + norm.eps).rsqrt()
        return centred * scale[:, None, None] + norm.bias[:, None, None]


class _Total(torch.autograd.Function):
    """A sum over processes; each process's part gets the gradients of all."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the sum of the parts."""
        ctx.total = total
        return total(part.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Return the sum of the gradients."""
        return ctx.total(gradients[0].clone()), None


def share_statistics(network: nn.Module, total: Callable[[Tensor], Tensor] | None) -> None:
    """Let batch norm that was put in go by the statistics of all processes, or by its own again.

    Args:
        network: Of :func:`add_batch_norm`.
        total: Adds a tensor up over all processes; every process must call it equally often.
    """
    for module in network.modules():
        if isinstance(module, NormedConv):
            module.total = total


@torch.no_grad()
def add_batch_norm(network: nn.Module, images: Tensor) -> None:
    """Put batch norm behind every convolution of ``network``, in place, without changing what it computes.

    Args:
        network: Its convolutions must not be followed by norms already.
        images: Examples of its input [B, 3, S, S]; scale and offset begin with their statistics.

    Raises:
        ConfigError: If the network has no convolution, or has norms of its own.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        >>> add_batch_norm(network, torch.rand(4, 3, 8, 8))
        >>> type(network[0]).__name__
        'NormedConv'
    """
    norms = [name for name, module in network.named_modules() if "Norm" in type(module).__name__]
    convs = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    if norms or not convs:
        raise ConfigError(
            "cannot add batch norm",
            given=f"a network with {len(convs)} convolutions and {len(norms)} norms",
            expected="convolutions, and no norms",
            do="leave out batch_norm for this encoder",
        )
    statistics: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(conv: nn.Module, _: object, out: Tensor) -> None:
        statistics[conv] = out.mean((0, 2, 3)), out.var((0, 2, 3), correction=0)

    hooks = [conv.register_forward_hook(note) for conv in convs.values()]
    network(images)
    for hook in hooks:
        hook.remove()
    for name, conv in convs.items():
        network.set_submodule(name, NormedConv(conv, *statistics[conv]))


def fold_batch_norm(network: nn.Module) -> None:
    """Fold what ``add_batch_norm`` put in back into the convolutions, in place.

    Args:
        network: In evaluation mode.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3))
        >>> add_batch_norm(network, torch.rand(4, 3, 8, 8))
        >>> fold_batch_norm(network.eval())
        >>> type(network[0]).__name__
        'Conv2d'
    """
    for name, module in list(network.named_modules()):
        if isinstance(module, NormedConv):
            network.set_submodule(name, fuse_conv_bn_eval(module.conv, module.norm))
