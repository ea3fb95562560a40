"""What is asked of an export."""

from marshmallow import Schema

from mai_sessions.schemas.fields import Identifier


class ExportQuery(Schema):
    """What to export."""

    session_id = Identifier(load_default=None, metadata={"description": "This session alone"})
