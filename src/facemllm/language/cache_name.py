"""What transformers calls the keys and values of earlier tokens.

Version 5.24 renamed ``past_key_values`` to ``cache``, in arguments and in outputs. Both are supported, each
by the name that it has there, so that neither warns.
"""

from __future__ import annotations

from dataclasses import fields

from transformers.modeling_outputs import CausalLMOutputWithPast

CACHE_NAME = (
    "cache" if any(field.name == "cache" for field in fields(CausalLMOutputWithPast)) else "past_key_values"
)
