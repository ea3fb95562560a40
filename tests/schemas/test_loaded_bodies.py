"""The service loads bodies like marshmallow: the same values, the same errors."""

from typing import Any

import marshmallow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mai_sessions.ids import new_id
from mai_sessions.schemas.body import Body
from mai_sessions.schemas.messages import MessageBatch, MessageCreate, MessagePatch
from mai_sessions.schemas.session_changes import SessionChanges
from mai_sessions.schemas.sessions import SessionBatch, SessionCreate, SessionPatch

SCHEMAS = [
    MessageBatch(),
    MessageCreate(),
    MessagePatch(),
    SessionBatch(),
    SessionChanges(),
    SessionCreate(),
    SessionPatch(),
]
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-1, 2**31)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        ["user", "streaming", "delete", "2020-01-02T03:04:05Z", "9999-01-01T00:00:00Z", "x" * 300]
    )
    | st.sampled_from([str(new_id()), str(new_id())])
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.just("user"), "content": st.text(max_size=3)},
        optional={"id": _SCALARS, "is_error": _SCALARS},
    ),
    max_size=3,
)
_GOOD = {"role": st.just("user"), "action": st.just("delete"), "messages": _MESSAGES}


def bodies(schema: Body) -> st.SearchStrategy[Any]:
    """Bodies of which most members are those of the schema, and many are right."""
    members = {name: _GOOD.get(name, _VALUES) | _VALUES for name in schema.load_fields}
    return st.fixed_dictionaries({}, optional={**members, "unknown": _SCALARS}) | _VALUES


def outcome(load: Any, body: Any) -> str:
    """The value, or the errors, as text: NaN differs from itself. The order of members means nothing."""
    try:
        value = load(body)
        return repr(sorted(value.items()) if isinstance(value, dict) else value)
    except marshmallow.ValidationError as error:
        return f"refused: {sorted(error.normalized_messages().items(), key=repr)!r}"


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: type(schema).__name__)
@given(data=st.data())
def test_body_is_loaded_as_marshmallow_loads_it(schema: Body, data: st.DataObject) -> None:
    body = data.draw(bodies(schema))
    by_marshmallow = outcome(lambda given: marshmallow.Schema.load(schema, given), body)
    assert outcome(schema.load, body) == by_marshmallow


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        ({}, {"role", "content"}),
        ({"role": "user"}, {"content"}),
        ({"role": 1, "content": 2}, {"role", "content"}),
    ],
)
def test_refused_body_names_every_member(body: dict[str, Any], keys: set[str]) -> None:
    with pytest.raises(marshmallow.ValidationError) as refused:
        MessageCreate().load(body)
    assert refused.value.normalized_messages().keys() == keys
