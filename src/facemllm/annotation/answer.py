"""The answer an annotator must give: a JSON schema, and reading what came back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

Seen = Literal["yes", "no", "not visible"]
"""What may be said of an attribute."""

NOT_VISIBLE: Literal["not visible"] = "not visible"


@dataclass(frozen=True)
class Given:
    """A valid answer.

    Attributes:
        caption: As it was written.
        attributes: By name, "yes", "no" or "not visible".
        labels: Extra labels that were asked for.
    """

    caption: str
    attributes: dict[str, Seen]
    labels: dict[str, str]


@dataclass(frozen=True)
class Fault:
    """Why an answer cannot be used.

    Attributes:
        reason: A word that is counted: ``cut``, ``not_json``, ``wrong_schema``, ``wrong_language``,
            ``caption``, ``unasked_trait``, ``broken_caption``, ``refused``.
        detail: What exactly, in words that an annotator can act on.
    """

    reason: str
    detail: str


def answer_model(attributes: Sequence[str], extra: Mapping[str, Sequence[str]]) -> type[BaseModel]:
    """Return the model of an answer: a caption, each attribute, and each extra label.

    Example:
        >>> model = answer_model(["smiling"], {"gender": ("male", "female")})
        >>> model.model_validate({"caption": "A face.", "attributes": {"smiling": "yes"}, "gender": "male"})
        Answer(caption='A face.', attributes=Attributes(smiling='yes'), gender='male')
    """
    strict = ConfigDict(extra="forbid")
    # Names such as 5_o_clock_shadow are no Python names, which pydantic does not mind.
    fields: dict[str, Any] = dict.fromkeys(attributes, (Seen, ...))
    labels: dict[str, Any] = {
        name: (Literal[(*options, NOT_VISIBLE)], ...) for name, options in extra.items()
    }
    of_attributes = create_model("Attributes", __config__=strict, **fields)
    return create_model(
        "Answer", __config__=strict, caption=(str, ...), attributes=(of_attributes, ...), **labels
    )


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of an answer, without references and titles, as every server understands it."""
    raw = model.model_json_schema()
    definitions = raw.pop("$defs", {})

    def plain(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return plain(definitions[node["$ref"].rpartition("/")[2]])
            return {key: plain(value) for key, value in node.items() if key != "title"}
        return [plain(value) for value in node] if isinstance(node, list) else node

    schema: dict[str, Any] = plain(raw)
    return schema


def read_answer(
    text: str | None, model: type[BaseModel], *, finish: str = "stop", refusals: Sequence[str] = ()
) -> Given | Fault:
    """Read the text of a reply.

    Args:
        text: What the annotator wrote; a fence of three backticks around it is forgiven.
        model: From :func:`answer_model`.
        finish: Why it stopped: "length" means that it was cut.
        refusals: Beginnings of refusals, in lower case.

    Example:
        >>> read_answer('{"caption": "A fa', answer_model(["smiling"], {}), finish="length")
        Fault(reason='cut', detail='it was cut off before its end')
        >>> read_answer("I'm sorry, but no.", answer_model([], {}), refusals=["i'm sorry"]).reason
        'refused'
    """
    body = _unfenced((text or "").strip())
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        said = body.lower().replace("\u2019", "'")
        if any(said.startswith(beginning) for beginning in refusals):
            return Fault("refused", body[:200])
        if finish == "length" or body.startswith("{"):
            return Fault("cut", "it was cut off before its end")
        return Fault("not_json", "it is not a JSON object" if body else "it is empty")
    try:
        answer = model.model_validate(value)
    except ValidationError as error:
        shown = [
            f"{'.'.join(map(str, e['loc'])) or 'the answer'}: {e['msg']}"
            for e in error.errors(include_url=False, include_input=False)[:5]
        ]
        return Fault("wrong_schema", "; ".join(shown))
    values = answer.model_dump()
    caption, attributes = values.pop("caption"), values.pop("attributes")
    return Given(" ".join(caption.split()), attributes, values)


def _unfenced(text: str) -> str:
    if not text.startswith("```"):
        return text
    body = text.partition("\n")[2]
    return body.rpartition("```")[0].strip() if "```" in body else body.strip()
