"""Weights of four bits, through bitsandbytes: a frozen language model takes a quarter of the memory.

Source: QLoRA, arXiv 2305.14314.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Literal

from facemllm.core.config import StrictModel, validate
from facemllm.core.errors import ConfigError, MissingExtraError


class QuantizeOptions(StrictModel):
    """How the weights of a language model's linear layers are packed.

    Args:
        type: "nf4", whose levels are those of a normal distribution, or "fp4".
        double: Whether the scales of the blocks are packed too.
        compute: Precision that packed weights are unpacked to when they are computed with.
    """

    type: Literal["nf4", "fp4"] = "nf4"
    double: bool = True
    compute: Literal["bfloat16", "float32"] = "bfloat16"


def quantization_config(quantize: QuantizeOptions | Mapping[str, Any]) -> Any:
    """Return the options as ``from_pretrained`` of transformers takes them.

    Raises:
        ConfigError: If an option is unknown, or no device here can compute with packed weights.
        MissingExtraError: If bitsandbytes is not installed.
    """
    options = (
        quantize
        if isinstance(quantize, QuantizeOptions)
        else validate(QuantizeOptions, dict(quantize), source="quantize")
    )
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", extra="qlora", needed_for="a language model of 4-bit weights")
    import torch
    from transformers import BitsAndBytesConfig
    from transformers.integrations import validate_bnb_backend_availability

    try:
        validate_bnb_backend_availability(raise_exception=True)
    except (RuntimeError, ImportError, ValueError) as error:
        raise ConfigError(
            "no device here computes with 4-bit weights",
            given=str(error).strip().partition("\n")[0],
            expected="a device that the installed bitsandbytes supports",
            do="install a bitsandbytes for this device, or leave `quantize` out",
        ) from error
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=options.type,
        bnb_4bit_use_double_quant=options.double,
        bnb_4bit_compute_dtype=getattr(torch, options.compute),
    )


def is_quantized(model: Any) -> bool:
    """Say whether a causal LM, or the one that peft has wrapped, has packed weights."""
    return getattr(_inner(model), "hf_quantizer", None) is not None


def check_packed(model: Any) -> None:
    """Look whether packed weights are what they should be, and keep their layout as it is.

    On some CPUs, bitsandbytes lays packed weights out anew in place outside training. Weights that are frozen
    must have the bytes they had, and the other layout does not hold every size: that is switched off.

    Raises:
        ConfigError: On a CPU, if a layer's width is not a whole number of blocks; bitsandbytes 0.50 unpacks
            such weights wrongly there.
    """
    for name, module in model.named_modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is None:
            continue
        module.support_avx512bf16_for_cpu = False
        if module.weight.device.type == "cpu" and module.in_features % state.blocksize:
            raise ConfigError(
                "these weights cannot be packed on a CPU",
                given=f"{name}, which reads {module.in_features} numbers",
                expected=f"a multiple of {state.blocksize}, the size of a block",
                do="use another language model or a GPU, or leave `quantize` out",
            )


def prepare_for_lora(model: Any) -> Any:
    """Return a causal LM with packed weights as LoRA trains on it: frozen, with norms in single precision."""
    from peft import prepare_model_for_kbit_training

    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


def dequantize(model: Any) -> None:
    """Unpack the weights of a causal LM in place; nothing is done where none are packed.

    LoRA was trained beside the packed weights, so these and no others belong to it: what is saved afterwards
    loads without bitsandbytes.
    """
    inner = _inner(model)
    if is_quantized(model):
        inner.dequantize()
        inner.hf_quantizer = None


def _inner(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "peft_config") else model
