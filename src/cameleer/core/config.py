"""Frozen configs from TOML: unknown keys are errors with the nearest name, dotted overrides are typed like the file.

A stage's config is a subclass of `Config`; the docstring under each field is its documentation and there is no other.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from cameleer.core.errors import UserError, did_you_mean

NONE = "none"


class Config(BaseModel):
    """Base of every config: immutable, strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _none_by_name(cls, given: Any) -> Any:
        """TOML has no null: the word "none" unsets a key that is set where it is left out."""
        if not isinstance(given, Mapping):
            return given
        unset = {name for name, value in given.items() if value == NONE and cls._has_another_default(name)}
        return {name: None if name in unset else value for name, value in given.items()}

    @classmethod
    def _has_another_default(cls, name: Any) -> bool:
        """Whether a field may be None and is not if it is left out."""
        field = cls.model_fields.get(name)
        return (
            field is not None and field.default is not None and type(None) in getattr(field.annotation, "__args__", ())
        )

    @classmethod
    def parse(cls, table: Mapping[str, Any], where: str) -> Self:
        """The config of a table; `where` names the table in errors. Raises UserError listing every problem found."""
        try:
            return cls.model_validate(table)
        except ValidationError as failure:
            problems = [_describe(cls, error, where) for error in failure.errors()]
            raise UserError("\n".join(problems)) from None


def _describe(config: type[BaseModel], error: ErrorDetails, where: str) -> str:
    """One validation error in words that name the key as the user wrote it."""
    path = [where, *(str(part) for part in error["loc"])]
    name = ".".join(part for part in path if part)
    if error["type"] == "extra_forbidden":
        known = _fields_at(config, error["loc"][:-1])
        suggestion = did_you_mean(str(error["loc"][-1]), known)
        known_text = f" Known keys: {', '.join(sorted(known))}." if known and not suggestion else ""
        return f"{name}: unknown key.{suggestion}{known_text}"
    if error["type"] == "missing":
        return f"{name}: missing; it has no default."
    message = error["msg"].removeprefix("Value error, ")
    # A validator of the whole table has no single value worth quoting.
    value = "" if isinstance(error["input"], Mapping) else f" (got {error['input']!r})"
    return f"{name}: {message[:1].lower()}{message[1:]}{value}."


def _fields_at(config: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The field names of the config that an error's location leads to; empty where the path leaves known configs."""
    current: Any = config
    for part in location:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part)
        current = _config_inside(field.annotation) if field else None
        if current is None:
            return []
    return list(current.model_fields)


def _config_inside(annotation: Any) -> type[BaseModel] | None:
    """The first config class inside an annotation such as `tuple[Source, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _config_inside(argument)
        if found is not None:
            return found
    return None


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises UserError for a missing file, bad encoding or bad syntax (with its line)."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        siblings = [str(found) for found in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise UserError(f"{path}: no such recipe.{did_you_mean(str(path), siblings)}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name the recipe's .toml file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise UserError(f"{path}: not valid TOML: {failure}") from None


def apply_overrides(tables: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`tables` with each override `dotted.key=value` applied; the value is TOML, or a plain string if it is not."""
    result = _copied(tables)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {override}: expected KEY=VALUE, for example --set sft.learning_rate=1e-5")
        *parents, last = key.strip().split(".")
        table = result
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise UserError(f"--set {override}: '{parent}' is a value in this recipe, not a table.")
        table[last] = _toml_value(text.strip())
    return result


def _copied(value: Any) -> Any:
    return {key: _copied(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
