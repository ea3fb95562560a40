"""The base of the schemas of bodies."""

from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, missing, post_load, validates_schema


class Body(Schema):
    """A schema that loads only the members that are given, each with its field.

    marshmallow itself goes through every field, given or not, and collects all errors. It does the work again
    where a member is refused, so the errors are its own.
    """

    class Meta:
        unknown = EXCLUDE

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._by_key = {field.data_key or name: (name, field) for name, field in self.load_fields.items()}
        self._if_absent = [
            (key, name, field)
            for key, (name, field) in self._by_key.items()
            if field.required or field.load_default is not missing
        ]

    def load(self, data: Any, **kwargs: Any) -> Any:
        """Load a body. Raises ValidationError."""
        is_plain = not self.many and all(value in (None, EXCLUDE) for value in kwargs.values())
        if is_plain and isinstance(data, dict):
            try:
                return self._load_given(data)
            except ValidationError:
                pass
        try:
            return super().load(data, **kwargs)
        except ValidationError as error:
            # marshmallow's frames and the error refer to each other, and would keep the body in memory until
            # a full garbage collection.
            raise error.with_traceback(None) from None

    def check(self, given: Any) -> None:
        """Raise ValidationError for errors that concern several fields. `given` may be anything."""

    def make(self, data: dict[str, Any]) -> Any:
        """Make the value of the body from its loaded members. Raises ValidationError."""
        return data

    def _load_given(self, given: dict[str, Any]) -> Any:
        loaded = {}
        for key, value in given.items():
            if key in self._by_key:
                name, field = self._by_key[key]
                loaded[name] = field.deserialize(value, key, given)
        for key, name, field in self._if_absent:
            if key not in given:
                loaded[name] = field.deserialize(missing, key, given)
        self.check(given)
        return self.make(loaded)

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def _check(self, _data: dict[str, Any], given: Any, **_: Any) -> None:
        self.check(given)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Any:
        return self.make(data)
