"""Batch norm for a network that has none: put in for its training, and folded away afterwards.

A network of convolutions alone is quick to run and slow to train. Batch norm mends the second and costs
nothing at inference, as it is one more factor and summand for each channel.

Source: Ioffe and Szegedy, arXiv 1502.03167; statistics of averaged weights: Izmailov et al., arXiv
1803.05407, section 3.2.
"""

from __future__ import annotations

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
    """

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
        normed: Tensor = self.norm(self.conv(x))
        return normed


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
