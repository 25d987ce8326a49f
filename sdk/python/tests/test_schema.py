"""Schemas out of type hints."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict, Union

import pytest

from waymesh.schema import Signature, shape
from waymesh.types import Call


@dataclasses.dataclass
class Part:
    text: str
    weight: float = 1.0


class Options(TypedDict):
    depth: int
    parts: NotRequired[list[Part]]


PART = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "weight": {"type": "number"}},
    "required": ["text"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (str, {"type": "string"}),
        (bool, {"type": "boolean"}),
        (Any, {}),
        (list, {"type": "array"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Union[int, str], {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (Annotated[int, "how many"], {"type": "integer", "description": "how many"}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (Part, PART),
    ],
)
def test_the_schema_of_a_hint(hint: Any, schema: dict[str, Any]) -> None:
    assert shape(hint)[0] == schema


def test_values_become_what_the_hints_say() -> None:
    def handler(part: Part | None, options: Options, many: dict[str, list[Part]], pair: tuple[int, Part]) -> None:
        del part, options, many, pair

    one = {"text": "a"}
    args = {"part": one, "options": {"depth": 1, "parts": [one]}, "many": {"x": [one]}, "pair": [1, one]}
    _, named = Signature(handler, Call).bind(args, None)
    assert named == {
        "part": Part("a"),
        "options": {"depth": 1, "parts": [Part("a")]},
        "many": {"x": [Part("a")]},
        "pair": (1, Part("a")),
    }
    assert Signature(handler, Call).bind(args | {"part": None}, None)[1]["part"] is None


def test_defaults_make_parameters_optional_and_the_context_is_not_one() -> None:
    def handler(a: int, call: Call, b: str = "x", **rest: Any) -> None:
        del a, call, b, rest

    signature = Signature(handler, Call)
    assert signature.schema == {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "string", "default": "x"}},
        "required": ["a"],
    }
    assert signature.bind({"a": 1}, "the call") == ((), {"a": 1, "call": "the call"})


def test_a_positional_only_parameter_takes_the_payload_as_it_is() -> None:
    def whole(value: list[Part], /) -> None:
        del value

    def raw(data: bytes) -> None:
        del data

    assert Signature(whole, Call).schema == {"type": "array", "items": PART}
    assert Signature(whole, Call).bind([{"text": "a"}], None) == (([Part("a")],), {})
    assert Signature(raw, Call).schema is None
    assert Signature(raw, Call).bind(b"x", None) == ((b"x",), {})


@pytest.mark.parametrize("hint", [dict[int, str], complex, set[int]])
def test_what_json_cannot_say_is_refused(hint: Any) -> None:
    with pytest.raises(TypeError):
        shape(hint)
