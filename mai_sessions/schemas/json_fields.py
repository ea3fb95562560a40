"""Fields for values that are JSON themselves, or base64 in JSON."""

from datetime import UTC, datetime
from typing import Any

from marshmallow import ValidationError, fields

from mai_sessions.content.attachments import Attachment, linked_sha256, read_image
from mai_sessions.content.json_text import parse_json
from mai_sessions.content.long_text import Content, LongText
from mai_sessions.content.metadata import MAX_METADATA, Metadata, read_metadata
from mai_sessions.content.parts import MAX_PARTS, BrokenValue, Parts, read_parts
from mai_sessions.schemas.fields import ErrorText, Text, TypedErrors


class ContentField(Text):
    """The content of a message, which may be a LongText."""

    def _deserialize(  # type: ignore[override]  # a LongText is a text, too
        self, value: Any, attr: str | None, data: Any, **kwargs: Any
    ) -> Content:
        if not isinstance(value, LongText):
            return super()._deserialize(value, attr, data, **kwargs)
        if b"\0" in value.utf8:
            raise self.make_error("nul")
        return value


class PartsField(TypedErrors, fields.Field[Parts]):
    """The structured content of a message."""

    default_error_messages = {"invalid": "Not an array."}  # noqa: RUF012 - the form that marshmallow asks for

    def __init__(self, **kwargs: Any) -> None:
        metadata = {
            "type": "array",
            "items": {"type": "object", "additionalProperties": True},
            "description": "Structured content, returned equal; base64 `data:` URLs of 1 KiB or more become "
            f"links to attachments; at most {MAX_PARTS} bytes of compact JSON after that",
        }
        super().__init__(metadata=metadata, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Parts:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        try:
            return read_parts(value)
        except BrokenValue as error:
            raise _validation_error(error) from None


class MetadataField(TypedErrors, fields.Field[Metadata]):
    """The metadata of a session or message."""

    default_error_messages = {"invalid": "Not an object."}  # noqa: RUF012

    def __init__(self, **kwargs: Any) -> None:
        metadata = {
            "type": "object",
            "additionalProperties": True,
            "description": f"Any object, of at most {MAX_METADATA} bytes as compact JSON; a PATCH "
            "merges its top level, and a key given as null goes (RFC 7396)",
        }
        super().__init__(metadata=metadata, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Metadata:
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        try:
            return read_metadata(value)
        except BrokenValue as error:
            raise _validation_error(error) from None


class MetadataFilter(TypedErrors, fields.Field[bytes]):
    """A JSON object in the query that the metadata of a session must contain."""

    default_error_messages = {"invalid": "Not a JSON object."}  # noqa: RUF012

    def __init__(self, **kwargs: Any) -> None:
        description = 'A JSON object that the metadata must contain, as `{"pinned":true}` or `{"tags":["x"]}`'
        super().__init__(metadata={"type": "string", "description": description}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bytes | None:
        if not value:
            return None
        try:
            parsed = parse_json(value.encode())
            if not isinstance(parsed, dict):
                raise self.make_error("invalid")
            return read_metadata(parsed).value if parsed else None
        except BrokenValue as error:
            raise ValidationError(ErrorText(str(error), error.reason)) from None


class ImageField(TypedErrors, fields.Field[Attachment | str]):
    """An image in base64, bare or in a data URL; or the link to one of the caller's attachments, as its
    SHA-256.
    """

    default_error_messages = {  # noqa: RUF012
        "invalid": "Not the base64 of a PNG, JPEG, GIF, WebP or AVIF image, and not a link to an attachment."
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Attachment | str:
        if not isinstance(value, str):
            raise self.make_error("invalid")
        image = linked_sha256(value) or read_image(value)
        if image is None:
            raise self.make_error("invalid")
        return image


class PastMoment(TypedErrors, fields.Field[datetime]):
    """An ISO 8601 date and time with an offset that is not in the future."""

    default_error_messages = {  # noqa: RUF012
        "invalid": "Not an ISO 8601 date and time with an offset.",
        "future": "Must not be in the future.",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(metadata={"type": "string", "format": "date-time"}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        try:
            given = datetime.fromisoformat(value.upper())  # RFC 3339 §5.6 also allows t and z.
            moment = given.astimezone(UTC)
        except (AttributeError, ValueError, OverflowError):
            raise self.make_error("invalid") from None
        # Python ignores a U+0000 at the end.
        if given.tzinfo is None or not value.isprintable():
            raise self.make_error("invalid")
        if moment > datetime.now(UTC):
            raise self.make_error("future")
        return moment


def _validation_error(error: BrokenValue) -> ValidationError:
    """Return the same error in marshmallow's form: nested by its path."""
    messages: Any = [ErrorText(str(error), error.reason)]
    for key in reversed(error.path):
        messages = {key: messages}
    return ValidationError(messages)
