"""Configurations as text: overrides, what is wrong with one in words, and one written as TOML."""

from __future__ import annotations

import json
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from theory.shared.validation import instance, one_of

Schema = Mapping[str, Any]
"""A JSON schema, as pydantic makes it."""

TYPES = {"int_type": "int", "float_type": "float", "bool_type": "bool", "string_type": "str"}
LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def overridden(settings: Mapping[str, Any], override: str) -> dict[str, Any]:
    """Return settings with one changed by ``section.key=value``; a bare word is a string.

    >>> overridden({"model": {"width": 1.0}}, "model.name=resnet18")
    {'model': {'width': 1.0, 'name': 'resnet18'}}
    """
    instance("override", override, str, "Pass section.key=value, as 'training.epochs=2'.")
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ValueError(f"--set must be section.key=value; got {override!r}.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    changed = dict(settings)
    *sections, name = key.strip().split(".")
    inner = changed
    for section in sections:
        below = inner.get(section, {})
        if not isinstance(below, Mapping):
            raise ValueError(f"--set {override!r}: {section!r} is a value, not a section.")
        inner[section] = dict(below)
        inner = inner[section]
    inner[name] = value
    return changed


def explained(error: ValidationError, schema: Schema) -> str:
    """Return what is wrong, a line for each problem: key, value, and what it may be."""
    lines: list[str] = []
    types: dict[str, list[str]] = {}
    for problem in error.errors():
        path, field = _located(problem["loc"], schema)
        kind, where, value = problem["type"], ".".join(path), problem["input"]
        if kind in TYPES:
            # One of several allowed types, as of a number or a name.
            types.setdefault(where, []).append(TYPES[kind])
            names = " or ".join(dict.fromkeys(types[where]))
            lines = [line for line in lines if not line.startswith(f"config key {where} ")]
            lines.append(f"config key {where} must be {names}; got {value!r}.")
        else:
            lines.append(_sentence(problem, where, field, value))
    return "\n".join(lines)


def _sentence(problem: Any, where: str, field: Schema, value: object) -> str:
    kind, last = problem["type"], str(problem["loc"][-1])
    prefix = f"{where}." if where else ""
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        try:
            return one_of(f"config key {prefix}{last}", last, field["properties"])
        except ValueError as unknown:
            return str(unknown)
    if kind == "missing":
        return f"config must set {where}."
    if kind == "value_error":
        # Worded by a check that knows the setting's own name, not its section's.
        section = prefix if "properties" in field else prefix.removesuffix(f"{last}.")
        return f"{section}{problem['ctx']['error']}"
    if kind == "literal_error":
        try:
            return one_of(where, str(value), field["enum"])
        except ValueError as unknown:
            return str(unknown)
    if kind == "tuple_type":
        return f"config key {where} must be a list; got {value!r}."
    if "properties" in field:
        return f"config section [{where}] must be a table; got {value!r}."
    return f"{where} must be {_range(field)}; got {value!r}."


def _range(field: Schema) -> str:
    noun = "a whole number" if field["type"] == "integer" else "a finite number"
    limits = [f"{sign} {field[name]:g}" for name, sign in LIMITS.items() if name in field]
    return f"{noun} {' and '.join(limits)}".strip()


def _located(location: Iterable[int | str], schema: Schema) -> tuple[list[str], Schema]:
    """Follow a location as far as it names keys; return their names and the last one's schema."""
    path: list[str] = []
    here = schema
    for step in location:
        if step not in here.get("properties", {}):
            break
        path.append(str(step))
        here = _resolved(here["properties"][step], schema)
    return path, here


def _resolved(field: Schema, schema: Schema) -> Schema:
    """Return a key's schema without indirections: of a section, or of what is no null."""
    if "$ref" in field:
        section: Schema = schema["$defs"][field["$ref"].rpartition("/")[2]]
        return section
    if "anyOf" in field:
        return {**field["anyOf"][0], **field}
    return field


def to_toml(config: BaseModel) -> str:
    """Return every setting as TOML, each under a comment that says what it is.

    Reading the text gives an equal configuration. A key whose default is no value is a comment.
    """
    schema = config.model_json_schema()
    lines = list(_lines(config.model_dump(), schema, schema))
    return "\n".join(lines).strip() + "\n"


def _lines(values: Mapping[str, Any], here: Schema, schema: Schema) -> Iterator[str]:
    sections = []
    for name, field in here["properties"].items():
        if isinstance(values[name], Mapping):
            sections.append(name)
            continue
        yield from textwrap.wrap(f"# {field['description']}", 98, subsequent_indent="# ")
        yield f"# {name} =" if values[name] is None else f"{name} = {_toml(values[name])}"
    for name in sections:
        below = _resolved(here["properties"][name], schema)
        yield from ("", f"# {below['description'].splitlines()[0]}", f"[{name}]")
        yield from _lines(values[name], below, schema)


def _toml(value: object) -> str:
    """Write a string, number, truth value or list of them: as in JSON, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
