"""Problem documents: RFC 9457."""

from marshmallow import Schema, fields


class BrokenRule(Schema):
    """A rule of the contract that the request breaks."""

    loc = fields.List(
        fields.Raw(metadata={"type": ["string", "integer"]}),
        required=True,
        metadata={"description": "The place: body, query or header, and the path in it"},
    )
    msg = fields.String(required=True, metadata={"description": "For people"})
    type = fields.String(required=True, metadata={"description": "For programs"})


class Problem(Schema):
    """An error."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True, strict=True)
    detail = fields.String(required=True)
    request_id = fields.String(
        required=True, metadata={"description": "The id of the request, as in the log"}
    )
    errors = fields.List(
        fields.Nested(BrokenRule), metadata={"description": "With 422: each rule that the request breaks"}
    )
