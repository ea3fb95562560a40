"""marshmallow's fields, but strict about JSON's types, and with errors that programs can tell apart."""

from typing import Any

from marshmallow import ValidationError, fields, validate

from mai_sessions.ids import parse_id
from mai_sessions.pagination import SessionPosition, parse_session_cursor

# The largest bigint and integer of PostgreSQL.
MAX_BIGINT = 2**63 - 1
MAX_INTEGER = 2**31 - 1


class ErrorText(str):
    """The text of an error, with a word for programs in `type`."""

    type: str

    def __new__(cls, text: str, type: str) -> "ErrorText":
        self = super().__new__(cls, text)
        self.type = type
        return self


class TypedErrors(fields.Field[Any]):
    """A field whose errors are ErrorText."""

    def make_error(self, key: str, **kwargs: Any) -> ValidationError:
        return ValidationError(ErrorText(str(super().make_error(key, **kwargs)), key))


class Text(TypedErrors, fields.String):
    """A string of at most `max_length` characters that PostgreSQL can hold: without U+0000."""

    default_error_messages = {  # noqa: RUF012 - the form that marshmallow asks for
        "nul": "Must not contain U+0000.",
        "too_long": "Longer than maximum length {max}.",
    }

    def __init__(
        self, *, max_length: int | None = None, metadata: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        self.max_length = max_length
        documented: dict[str, Any] = {"pattern": "^[^\\u0000]*$"}
        if max_length is not None:
            documented["maxLength"] = max_length
        super().__init__(metadata={**documented, **(metadata or {})}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        assert text is not None
        if "\0" in text:
            raise self.make_error("nul")
        if self.max_length is not None and len(text) > self.max_length:
            raise self.make_error("too_long", max=self.max_length)
        return text


class Integer(TypedErrors, fields.Integer):
    """A whole number; in a query, its decimal digits."""

    default_error_messages = {"range": "Must be {min} to {max}."}  # noqa: RUF012

    def __init__(self, *, min: int, max: int, metadata: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.min, self.max = min, max
        super().__init__(metadata={"minimum": min, "maximum": max, **(metadata or {})}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if isinstance(value, float) and value.is_integer():  # 1.0 is a whole number in JSON.
            value = int(value)
        if self.strict and not isinstance(value, int):
            raise self.make_error("invalid")
        if isinstance(value, str) and not (value.isascii() and value.removeprefix("-").isdecimal()):
            raise self.make_error("invalid")
        number = super()._deserialize(value, attr, data, **kwargs)
        assert number is not None
        if not self.min <= number <= self.max:
            raise self.make_error("range", min=self.min, max=self.max)
        return number


class Number(TypedErrors, fields.Float):
    """A number from 0 to `max`."""

    default_error_messages = {"range": "Must be 0 to {max:,.0f}."}  # noqa: RUF012

    def __init__(self, *, max: float, metadata: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.max = max
        super().__init__(metadata={"minimum": 0, "maximum": max, **(metadata or {})}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if not isinstance(value, int | float):
            raise self.make_error("invalid")
        number = super()._deserialize(value, attr, data, **kwargs)
        assert number is not None
        if not 0 <= number <= self.max:
            raise self.make_error("range", max=self.max)
        return number


class Flag(TypedErrors, fields.Boolean):
    """true or false, and no other spelling of it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class Choice(Text):
    """One of a few words."""

    default_error_messages = {"choice": "Must be one of: {choices}."}  # noqa: RUF012

    def __init__(self, *choices: str, **kwargs: Any) -> None:
        self.choices = choices
        super().__init__(validate=validate.OneOf(choices), **kwargs)

    def _validate(self, value: Any) -> None:
        if value not in self.choices:
            raise self.make_error("choice", choices=", ".join(self.choices))


class List(TypedErrors, fields.List[Any]):
    """An array of at most `max_items`."""

    default_error_messages = {"too_many": "More than {max} items."}  # noqa: RUF012

    def __init__(
        self,
        inner: fields.Field[Any],
        *,
        max_items: int,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.max_items = max_items
        super().__init__(inner, metadata={"maxItems": max_items, **(metadata or {})}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if isinstance(value, list) and len(value) > self.max_items:
            raise self.make_error("too_many", max=self.max_items)
        items = super()._deserialize(value, attr, data, **kwargs)
        assert items is not None
        return items


class Cursor(TypedErrors, fields.Field[SessionPosition]):
    """Where a page of sessions begins, as `next_cursor` of the page before names it."""

    default_error_messages = {"invalid": "Not a cursor of this service."}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> SessionPosition:
        try:
            return parse_session_cursor(str(value))
        except ValueError:
            raise self.make_error("invalid") from None


class Identifier(TypedErrors, fields.UUID):
    """A UUID in its usual 36 characters."""

    def _validated(self, value: Any) -> Any:
        if not isinstance(value, str) or parse_id(value) is None:
            raise self.make_error("invalid_uuid")
        return parse_id(value)
