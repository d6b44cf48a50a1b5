"""FaceMLLM: a vision encoder, a connector and a causal language model, as one transformers model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from facemllm.connectors import create_connector
from facemllm.core.errors import CheckpointError, ConfigError
from facemllm.encoders import create_encoder
from facemllm.heads import create_head
from facemllm.heads.base import check_head_name
from facemllm.language import LanguageModel, apply_lora, load_language_model
from facemllm.language.cache_name import CACHE_NAME
from facemllm.language.kernels import marker, use_our_attention
from facemllm.language.lora import lora_settings, name_tied_weights
from facemllm.model.asking import AskingMixin
from facemllm.model.config import FaceMLLMConfig
from facemllm.model.features import checked_features
from facemllm.model.passes import TrainingPass
from facemllm.model.saving import SavingMixin
from facemllm.model.trunk_cache import TrunkCache
from facemllm.ops import PrefixTree
from facemllm.processing.processor import FaceProcessor


@dataclass
class FaceMLLMOutput(CausalLMOutputWithPast):
    """Output of the language model, with the features of the pictures.

    Args:
        image_features: Tokens of the pictures after the connector [B, N, D].
    """

    image_features: Tensor | None = None


class FaceMLLM(SavingMixin, AskingMixin, PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A multimodal language model for faces.

    Build one with :meth:`from_parts`, or load one with ``AutoFaceMLLM.from_pretrained``.

    Source: arXiv 2410.20717; the composition (encoder, connector, LLM) is that of LLaVA, arXiv 2304.08485.

    Example:
        >>> from facemllm.language import tiny_language_model
        >>> llm = tiny_language_model(["How old?"], hidden_size=32, layers=1, heads=2, vocab_size=512)
        >>> model = FaceMLLM.from_parts(encoder="dlib-face", connector="mlp", language_model=llm)
        >>> model.config.image_tokens
        16
    """

    # Any: torch types every submodule as "Tensor or Module", which would hide what the parts are.
    encoder: Any
    connector: Any
    language_model: Any
    heads: Any

    config_class = FaceMLLMConfig
    base_model_prefix = "language_model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _skip_keys_device_placement = [CACHE_NAME]  # noqa: RUF012

    def __init__(
        self,
        config: FaceMLLMConfig,
        *,
        encoder: Any = None,
        connector: Any = None,
        language_model: Any = None,
    ) -> None:
        super().__init__(config)
        if encoder is None and not (config.encoder and config.connector):
            raise ConfigError(
                "cannot build a FaceMLLM",
                given="a configuration without encoder or connector",
                expected="both, with their names and options",
                do="use FaceMLLM.from_parts(encoder=..., connector=..., language_model=...)",
            )
        self.encoder = encoder if encoder is not None else create_encoder(**(config.encoder or {}))
        if language_model is None:
            language_model = AutoModelForCausalLM.from_config(config.text_config)
            if config.lora:
                language_model, _ = apply_lora(language_model, config.lora)
        name_tied_weights(language_model)
        self.language_model = language_model
        width = language_model.get_input_embeddings().embedding_dim
        if connector is None:
            connector = create_connector(
                **(config.connector or {}), in_dim=self.encoder.embed_dim, out_dim=width
            )
        self.connector = connector
        self.heads = nn.ModuleDict()
        for name, spec in (config.heads or {}).items():
            self.heads[name] = create_head(**spec, in_dim=self.encoder.embed_dim)
        self.processor: FaceProcessor | None = None
        # Why questions cannot share one reading of a picture; each is then a sequence of its own.
        self.plain_reasons: list[str] = use_our_attention(language_model)
        self.trunk_cache = TrunkCache()
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave weights as the parts made them: each part initialises itself."""

    @classmethod
    def from_parts(
        cls,
        *,
        encoder: str | nn.Module,
        connector: str | nn.Module = "mlp",
        language_model: str | LanguageModel | nn.Module,
        tokenizer: Any = None,
        crop: str = "face",
        crop_scale: float = 1.1,
    ) -> FaceMLLM:
        """Compose a model; every part is a name or an instance.

        Args:
            encoder: Name or instance, see ``create_encoder``.
            connector: Name or instance, see ``create_connector``.
            language_model: Source or instance, see ``load_language_model``.
            tokenizer: Replaces the language model's own; needed with a causal LM of transformers.
            crop: "face" or "none".
            crop_scale: Side of the crop over the longer side of the face box.

        Raises:
            ConfigError: If the widths of instances do not fit together.
        """
        vision: Any = create_encoder(encoder)
        llm = load_language_model(language_model, tokenizer=tokenizer)
        joint: Any = connector
        if isinstance(connector, str):
            joint = create_connector(connector, in_dim=vision.embed_dim, out_dim=llm.embed_dim)
        spec = dict(joint.spec)
        widths = (spec.pop("in_dim", vision.embed_dim), spec.pop("out_dim", llm.embed_dim))
        if widths != (vision.embed_dim, llm.embed_dim):
            raise ConfigError(
                "parts do not fit together",
                given=f"a connector from width {widths[0]} to {widths[1]}",
                expected=f"from the encoder's {vision.embed_dim} to the language model's {llm.embed_dim}",
                do="build it with in_dim=encoder.embed_dim, out_dim=llm.embed_dim",
            )
        tokenizer = tokenizer or llm.tokenizer
        image_tokens = joint.num_output_tokens(vision.num_tokens)
        peft_config = getattr(llm.model, "peft_config", None)
        settings: dict[str, Any] = {
            "text_config": llm.model.config,
            # the configuration is shared, and a new outer one would reset its choice of attention
            "attn_implementation": llm.model.config._attn_implementation,
            "encoder": dict(vision.spec),
            "connector": spec,
            "lora": lora_settings(peft_config) if peft_config else None,
            "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
            "image_tokens": image_tokens,
            "crop": crop,
            "crop_scale": crop_scale,
        }
        config = FaceMLLMConfig(**settings)
        model = cls(config, encoder=vision, connector=joint, language_model=llm.model)
        model.processor = FaceProcessor(
            tokenizer,
            image_size=vision.image_size,
            image_mean=vision.mean,
            image_std=vision.std,
            image_tokens=image_tokens,
            crop_scale=crop_scale,
        )
        return model.eval()

    # --- the forward pass

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Map pixel values [B, 3, S, S] to tokens for the language model [B, N, D]."""
        return self.connector(self.encoder(pixel_values))

    def encode(self, crops: Sequence[Any]) -> Tensor:
        """Map face crops (RGB) to the encoder's features [V, N', D']; a ConfigError if they are of no use."""
        pixels = self.checked_processor().pixels(crops).to(self.device, self.encoder_dtype)
        features = torch.cat([self.encoder(part) for part in pixels.split(64)])
        return checked_features(features, self.encoder, self.connector)

    def embed(
        self,
        input_ids: Tensor,
        *,
        pixel_values: Tensor | None = None,
        encoder_features: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return embeddings [B, L, D] with pictures in their places, and the pictures' tokens [P, N, D].

        Args:
            input_ids: Token ids with the image id where features go [B, L].
            pixel_values: The pictures, in order [P, 3, S, S].
            encoder_features: The encoder's output for them, if already computed [P, N', D'].

        Raises:
            ConfigError: If the number of image ids and of features differ.
        """
        embeds: Tensor = self.get_input_embeddings()(input_ids)
        if encoder_features is None and pixel_values is not None:
            encoder_features = self.encoder(pixel_values.to(self.encoder_dtype))
        if encoder_features is None:
            return embeds, None
        features = self.connector(encoder_features.to(self.encoder_dtype))
        return _merge(embeds, input_ids == self.config.image_token_id, features), features

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        encoder_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        tree: PrefixTree | None = None,
        *,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> FaceMLLMOutput:
        """Run the language model on text with pictures in it.

        With ``tree``, the one row of ``input_ids`` is a pack of trunks (each with its picture) and their
        branches; the result is that of as many separate sequences, each a trunk and one branch of it.

        Args:
            input_ids: Token ids with the image id where features go [B, L].
            pixel_values: One picture for each row that holds image ids, in order [P, 3, S, S].
            encoder_features: The encoder's output for them, if already computed [P, N', D'].
            attention_mask: 1 for real tokens [B, L].
            position_ids: Positions [B, L].
            cache: transformers cache of earlier tokens.
            inputs_embeds: Embeddings [B, L, D] instead of ids; pictures are then already in them.
            labels: Ids to predict, -100 to leave out [B, L].
            logits_to_keep: How many of the last logits to compute, or of which positions; 0 for all.
            tree: How the tokens of a pack hang together; they need neither mask nor positions.
            past_key_values: What ``cache`` was called before transformers 5.24.
            **kwargs: For the language model.

        Raises:
            ConfigError: If the number of image ids and of features differ, or the language model cannot take
                a pack.
        """
        features = None
        if inputs_embeds is None:
            assert input_ids is not None
            inputs_embeds, features = self.embed(
                input_ids, pixel_values=pixel_values, encoder_features=encoder_features
            )
        if tree is not None:
            self._check_pack(inputs_embeds, tree)
            attention_mask, position_ids = marker(inputs_embeds), tree.positions(inputs_embeds.device)[None]
            kwargs |= {"pack": TrainingPass(tree), "use_cache": False}
        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            logits_to_keep=logits_to_keep,
            **{**kwargs, CACHE_NAME: past_key_values if cache is None else cache, "return_dict": True},
        )
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=outputs.logits, labels=labels, vocab_size=outputs.logits.shape[-1], **kwargs
            )
        return FaceMLLMOutput(
            loss=loss,
            logits=outputs.logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_features=features,
            **{CACHE_NAME: getattr(outputs, CACHE_NAME, None)},
        )

    def _check_pack(self, inputs_embeds: Tensor, tree: PrefixTree) -> None:
        if self.plain_reasons:
            raise ConfigError(
                "this language model cannot take a pack",
                given="; ".join(self.plain_reasons),
                expected="a language model of transformers with plain attention",
                do="pass each question as a sequence of its own",
            )
        if inputs_embeds.shape[:2] != (1, tree.length):
            raise ConfigError(
                "pack and tree do not fit together",
                given=f"{tuple(inputs_embeds.shape[:2])} tokens",
                expected=f"(1, {tree.length})",
                do="lay trunks and branches end to end in one row",
            )

    def prepare_inputs_for_generation(  # type: ignore[override]
        self, input_ids: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Hand pictures over in the first step only: afterwards they are in the cache."""
        pictures = {key: kwargs.pop(key, None) for key in ("pixel_values", "encoder_features")}
        first = kwargs.pop("is_first_iteration", False) or kwargs.get(CACHE_NAME) is None
        parent: Any = super()
        inputs: dict[str, Any] = parent.prepare_inputs_for_generation(
            input_ids, is_first_iteration=first, **kwargs
        )
        return inputs | pictures if first or not kwargs.get("use_cache", True) else inputs

    def get_input_embeddings(self) -> nn.Module:
        """Return the language model's token embeddings."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's token embeddings."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module | None:
        """Return the language model's output layer."""
        return self.language_model.get_output_embeddings()

    @property
    def encoder_dtype(self) -> torch.dtype:
        """The dtype the encoder and connector compute in."""
        return next(self.connector.parameters()).dtype

    # --- heads

    def add_head(self, name: str, head: str | nn.Module, **options: Any) -> nn.Module:
        """Hang a task head on the encoder's features; it is saved with the model.

        Args:
            name: What it is asked by, in ``predict(image, head=name)``.
            head: Name or instance, see ``create_head``.
            **options: For a head given by name.

        Raises:
            ConfigError: If the name is taken or cannot be one, or the head is no head, is of another width
                than the encoder's features, or has wrong options.
        """
        check_head_name(name)
        if name in self.heads:
            raise ConfigError(
                "head exists already",
                given=name,
                expected="a new name",
                do=f"del model.heads[{name!r}] first",
            )
        module = create_head(head, in_dim=self.encoder.embed_dim, **options)
        spec: Any = getattr(module, "spec", None)
        if not isinstance(spec, Mapping):
            raise ConfigError(
                "cannot add this head",
                given=f"{type(head).__name__}, which does not tell what builds it again",
                expected="a name, or a TaskHead (or another module with spec, as create_head takes it)",
                do="derive it from facemllm.heads.TaskHead",
            )
        self.heads[name] = module.to(self.device)
        self.config.heads = {**(self.config.heads or {}), name: _without(spec, "in_dim")}
        return module

    def checked_processor(self) -> FaceProcessor:
        """Return the processor.

        Raises:
            CheckpointError: If the model was loaded without one.
        """
        if self.processor is None:
            raise CheckpointError(
                "model has no processor",
                given="a model built from a configuration alone",
                expected="a FaceProcessor with the tokenizer",
                do="load with AutoFaceMLLM.from_pretrained, or set model.processor",
            )
        return self.processor


def _merge(embeddings: Tensor, is_image: Tensor, features: Tensor) -> Tensor:
    """Put features [P, N, D] where ``is_image`` [B, L] is true in embeddings [B, L, D]."""
    found, expected = int(is_image.sum()), features.shape[0] * features.shape[1]
    if found != expected:
        raise ConfigError(
            "image tokens and image features do not match",
            given=f"{found} image ids in input_ids",
            expected=f"{features.shape[0]} pictures x {features.shape[1]} tokens = {expected}",
            do="make both with the model's own processor",
        )
    return embeddings.masked_scatter(is_image.unsqueeze(-1), features.to(embeddings.dtype))


def _without(spec: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in spec.items() if k != key}
