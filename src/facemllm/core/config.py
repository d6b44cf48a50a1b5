"""Strict configuration: unknown keys are refused and all errors are shown at once."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from facemllm.core.errors import ConfigError


class StrictModel(BaseModel):
    """A frozen pydantic model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=False)


M = TypeVar("M", bound=StrictModel)


def validate(model: type[M], values: dict[str, Any], *, source: str) -> M:
    """Build ``model`` from ``values``, turning pydantic's report into one of ours.

    Raises:
        ConfigError: Listing every error, with the key of each.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines, owners = [], dict[type[BaseModel], None]()
        for one in error.errors():
            key, owner = ".".join(map(str, one["loc"])) or "(root)", _owner(model, one["loc"])
            owners[owner] = None
            near: list[str] = []
            if one["type"] == "extra_forbidden":
                near = difflib.get_close_matches(str(one["loc"][-1]), owner.model_fields, n=2, cutoff=0.55)
            lines.append(f"{key}: {one['msg']}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
        raise ConfigError(
            f"{source} has {len(lines)} error{'s' * (len(lines) > 1)}",
            given="; ".join(lines),
            expected="; ".join(
                f"the fields of {owner.__name__}: {', '.join(owner.model_fields)}" for owner in owners
            ),
            do="correct the keys named above",
        ) from None


def _owner(model: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the part of a model that holds the key at ``place``."""
    for key in place[:-1]:
        field = model.model_fields.get(str(key))
        inner = None if field is None else _model_in(field.annotation)
        model = model if inner is None else inner
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(part) for part in get_args(annotation))
    return next((part for part in found if part is not None), None)


def load_yaml(path: str | Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a YAML mapping and apply ``dotted.key=value`` overrides (values are YAML too).

    Raises:
        ConfigError: If the file is missing, is not a mapping, or an override has no ``=``.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(
            "cannot read configuration", given=path, expected="a YAML file", do="check the path"
        )
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            "configuration is not YAML", given=error, expected="valid YAML", do=f"correct {path}"
        ) from None
    if not isinstance(values, dict):
        raise ConfigError(
            "configuration is not a mapping",
            given=type(values).__name__,
            expected="key: value lines",
            do=f"correct {path}",
        )
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(
                "cannot read override",
                given=override,
                expected="key=value",
                do="write for example stages.0.epochs=2",
            )
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(
                "cannot read override",
                given=f"{override} ({str(error).splitlines()[0]})",
                expected="a value in YAML after the =",
                do="quote the value, or close its brackets",
            ) from None
        _set(values, key.split("."), value, override)
    return values


def _set(node: Any, keys: list[str], value: Any, override: str) -> None:
    *parents, last = keys
    try:
        for key in parents:
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    except (IndexError, ValueError, TypeError, AttributeError):
        raise ConfigError(
            "override does not fit the configuration",
            given=override,
            expected="a path of existing keys, with numbers for list items",
            do="check the recipe's structure",
        ) from None
