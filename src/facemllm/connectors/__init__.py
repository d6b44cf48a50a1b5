"""Connectors: from the features of a vision encoder to the embeddings of a language model."""

from facemllm.connectors.mlp import MLPConnector
from facemllm.connectors.qformer import QFormerConnector
from facemllm.connectors.registry import CONNECTORS, Connector, create_connector
from facemllm.connectors.resampler import ResamplerConnector

__all__ = [
    "CONNECTORS",
    "Connector",
    "MLPConnector",
    "QFormerConnector",
    "ResamplerConnector",
    "create_connector",
]
