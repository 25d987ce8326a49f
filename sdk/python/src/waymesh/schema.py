"""JSON Schemas out of type hints, and arguments back into typed values.

A handler's parameters become the properties of an object; those without a
default are required. Understood are str, int, float, bool, None, list, dict,
tuple, Optional, Union, Literal, Annotated (a text in it is the description),
Any, dataclasses, TypedDicts and Enums. Other types are an error when the skill
is declared, not when it is called.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Converter = Callable[[Any], Any]
#: A schema, and how to make the typed value of what fits it; None if it is that already.
Shape = tuple[dict[str, Any], Converter | None]

_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    None: {"type": "null"},
    list: {"type": "array"},
    dict: {"type": "object"},
    Any: {},
    object: {},
    inspect.Parameter.empty: {},
}


def shape(hint: Any) -> Shape:
    """The schema of a type hint and the conversion from JSON."""
    try:
        if hint in _PLAIN:
            return dict(_PLAIN[hint]), None
    except TypeError:
        pass
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}, hint
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _dataclass(hint)
    if typing.is_typeddict(hint):
        return _typed_dict(hint)
    return _generic(hint, typing.get_origin(hint), typing.get_args(hint))


def _generic(hint: Any, origin: Any, args: tuple[Any, ...]) -> Shape:
    if origin is typing.Annotated:
        schema, convert = shape(args[0])
        texts = [note for note in args[1:] if isinstance(note, str)]
        return schema | ({"description": texts[0]} if texts else {}), convert
    if origin is typing.Literal:
        return {"enum": list(args)}, None
    if origin in (typing.Union, types.UnionType):
        return _union(args)
    if origin in (typing.Required, typing.NotRequired, typing.ClassVar):
        return shape(args[0])
    if origin is tuple:
        return _tuple(args)
    if origin is not None and origin in (list, Sequence, typing.Iterable):
        schema, convert = shape(args[0])
        return {"type": "array", "items": schema}, convert and _each(convert)
    if origin is not None and origin in (dict, Mapping):
        if args[0] is not str:
            raise TypeError(f"{hint}: the keys of a JSON object are str")
        schema, convert = shape(args[1])
        return {"type": "object", "additionalProperties": schema}, convert and _each_value(convert)
    raise TypeError(f"{hint!r} has no JSON Schema; use plain types, dataclasses or TypedDict")


def _each(convert: Converter) -> Converter:
    return lambda items: [convert(item) for item in items]


def _each_value(convert: Converter) -> Converter:
    return lambda items: {name: convert(item) for name, item in items.items()}


def _tuple(args: tuple[Any, ...]) -> Shape:
    if len(args) == 2 and args[1] is Ellipsis:
        schema, convert = shape(args[0])
        make = convert or (lambda item: item)
        return {"type": "array", "items": schema}, lambda items: tuple(map(make, items))
    shapes = [shape(arg) for arg in args]
    makes = [convert or (lambda item: item) for _, convert in shapes]
    schema = {
        "type": "array",
        "prefixItems": [schema for schema, _ in shapes],
        "minItems": len(args),
        "maxItems": len(args),
    }
    return schema, lambda items: tuple(make(item) for make, item in zip(makes, items))


def _union(args: tuple[Any, ...]) -> Shape:
    shapes = [shape(arg) for arg in args]
    schema = {"anyOf": [schema for schema, _ in shapes]}
    if all(convert is None for _, convert in shapes):
        return schema, None

    def convert(value: Any) -> Any:
        for (part, make), hint in zip(shapes, args):
            if _fits(value, part, hint):
                try:
                    return value if make is None else make(value)
                except (TypeError, ValueError, KeyError):
                    continue
        return value

    return schema, convert


def _fits(value: Any, schema: dict[str, Any], hint: Any) -> bool:
    """Whether a value may be what one part of a union says, by its outer type."""
    if "enum" in schema:
        return value in schema["enum"]
    kinds: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
        "array": list,
        "object": dict,
    }
    wanted = kinds.get(schema.get("type", ""), object)
    if isinstance(value, bool) and wanted in (int, (int, float)):
        return False
    return isinstance(value, wanted)


def _dataclass(hint: type) -> Shape:
    hints = typing.get_type_hints(hint, include_extras=True)
    fields = [field for field in dataclasses.fields(hint) if field.init]
    shapes = {field.name: shape(hints[field.name]) for field in fields}
    required = [
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    make = _fields(shapes)

    def build(value: dict[str, Any]) -> Any:
        return hint(**make(value))

    return _object(shapes, required, closed=True), build


def _typed_dict(hint: Any) -> Shape:
    hints = typing.get_type_hints(hint, include_extras=True)
    shapes = {name: shape(of) for name, of in hints.items()}
    required = sorted(hint.__required_keys__, key=list(hints).index)
    changes = any(convert for _, convert in shapes.values())
    return _object(shapes, required, closed=False), _fields(shapes) if changes else None


def _fields(shapes: dict[str, Shape]) -> Converter:
    converters = {name: convert for name, (_, convert) in shapes.items() if convert}

    def convert(value: dict[str, Any]) -> dict[str, Any]:
        return {
            name: converters[name](item) if name in converters else item
            for name, item in value.items()
        }

    return convert


def _object(shapes: dict[str, Shape], required: list[str], *, closed: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: part for name, (part, _) in shapes.items()},
        "required": required,
    }
    return schema | ({"additionalProperties": False} if closed else {})


class Signature:
    """How a handler takes the arguments of a call.

    `schema` describes them; it is None when the handler takes the payload as it
    is: one positional-only parameter, or one that is `bytes`.
    """

    def __init__(self, handler: Callable[..., Any], context: type) -> None:
        hints = typing.get_type_hints(handler, include_extras=True)
        parameters = list(inspect.signature(handler).parameters.values())
        self.context = next((p.name for p in parameters if hints.get(p.name) is context), None)
        rest = [p for p in parameters if p.name != self.context]
        self.schema: dict[str, Any] | None = None
        self.whole = _takes_all(rest, hints)
        self._whole_name = rest[0].name if self.whole else ""
        self._converters: dict[str, Converter] = {}
        if not self.whole:
            self._describe(rest, hints)
        elif hints.get(self._whole_name) is not bytes:
            self._describe_whole(hints.get(self._whole_name, Any))

    def _describe_whole(self, hint: Any) -> None:
        schema, convert = shape(hint)
        self.schema = schema or None
        if convert is not None:
            self._converters[self._whole_name] = convert

    def _describe(self, parameters: list[inspect.Parameter], hints: dict[str, Any]) -> None:
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        named = [p for p in parameters if p.kind not in variadic]
        if len(named) > 1 and any(p.kind is p.POSITIONAL_ONLY for p in named):
            raise TypeError("a handler has one positional-only parameter or none")
        shapes = {p.name: shape(hints.get(p.name, p.annotation)) for p in named}
        required = [p.name for p in named if p.default is p.empty]
        is_open = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.schema = _object(shapes, required, closed=not is_open)
        for p in named:
            if p.default is not p.empty and _is_json(p.default):
                self.schema["properties"][p.name].setdefault("default", p.default)
        self._converters = {name: convert for name, (_, convert) in shapes.items() if convert}

    def bind(self, args: Any, context: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments to call the handler with. Raises TypeError or ValueError when they do not fit."""
        named = {} if self.context is None else {self.context: context}
        if self.whole:
            convert = self._converters.get(self._whole_name)
            return (args if convert is None else convert(args),), named
        if not isinstance(args, dict):
            raise TypeError("the arguments are not a JSON object")
        if self._converters:
            args = _fields({n: ({}, c) for n, c in self._converters.items()})(args)
        if not named:
            return (), args
        return (), args | named


def _takes_all(parameters: list[inspect.Parameter], hints: dict[str, Any]) -> bool:
    if len(parameters) != 1:
        return False
    only = parameters[0]
    return only.kind is only.POSITIONAL_ONLY or hints.get(only.name) is bytes


def _is_json(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))
