"""Causal language models: loaded, made small, adapted by LoRA."""

from facemllm.language.kernels import register_attention, use_our_attention
from facemllm.language.load import language_model_from_config, load_language_model, refuse_remote_code
from facemllm.language.lora import LoraOptions, apply_lora
from facemllm.language.model import LanguageModel, LoraReport
from facemllm.language.quantize import QuantizeOptions
from facemllm.language.tiny import number_token_ids, tiny_config, tiny_language_model, train_tokenizer

__all__ = [
    "LanguageModel",
    "LoraOptions",
    "LoraReport",
    "QuantizeOptions",
    "apply_lora",
    "language_model_from_config",
    "load_language_model",
    "number_token_ids",
    "refuse_remote_code",
    "register_attention",
    "tiny_config",
    "tiny_language_model",
    "train_tokenizer",
    "use_our_attention",
]
