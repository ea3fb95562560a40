"""The changes of a session, in its PATCH or with new messages."""

from typing import Any

from mai_sessions.schemas.body import Body
from mai_sessions.schemas.fields import Flag, Identifier, Text
from mai_sessions.schemas.json_fields import MetadataField

DEFAULT_TITLE = "New Chat"
DEFAULT_AGENT_NAME = "chat"


class SessionFields(Body):
    """The fields of a session that a client can set."""

    title = Text(
        max_length=255, allow_none=True, metadata={"description": f"Blank or null: `{DEFAULT_TITLE}`"}
    )
    agent_name = Text(
        max_length=100, allow_none=True, metadata={"description": f"Blank or null: `{DEFAULT_AGENT_NAME}`"}
    )
    model_id = Text(max_length=255, allow_none=True)
    metadata = MetadataField(allow_none=True)
    archived = Flag(allow_none=True, metadata={"description": "A default list leaves archived sessions out"})
    head_id = Identifier(
        allow_none=True, metadata={"description": "The newest message of the branch that is shown"}
    )


class SessionChanges(SessionFields):
    """The changes of a session that come with new messages; null means "not given"."""

    def make(self, data: dict[str, Any]) -> dict[str, Any]:
        """Drop nulls, and put defaults."""
        return with_defaults({name: value for name, value in data.items() if value is not None})


def with_defaults(data: dict[str, Any]) -> dict[str, Any]:
    """Put the default title and agent where they are blank."""
    for name, default in (("title", DEFAULT_TITLE), ("agent_name", DEFAULT_AGENT_NAME)):
        if name in data and not (data[name] or "").strip():
            data[name] = default
    return data
