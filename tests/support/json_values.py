"""JSON values that the service stores, for property tests."""

import json
from typing import Any

from hypothesis import strategies as st

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
JSON_OBJECTS = st.dictionaries(TEXTS, JSON_VALUES, max_size=4)


def same_json(one: Any, other: Any) -> bool:
    """Return whether two values are equal JSON: the same keys in the same order, the same numbers."""
    return json.dumps(one) == json.dumps(other)
