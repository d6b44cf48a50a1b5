"""Small modules over ``ops``."""

from facemllm.layers.attention import Attention
from facemllm.layers.block import TransformerBlock
from facemllm.layers.mlp import MLP

__all__ = ["MLP", "Attention", "TransformerBlock"]
