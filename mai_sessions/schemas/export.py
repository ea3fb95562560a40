"""The parameters of an export."""

from marshmallow import Schema

from mai_sessions.schemas.fields import Identifier


class ExportQuery(Schema):
    """The session to export, by default all."""

    session_id = Identifier(load_default=None, metadata={"description": "This session alone"})
