"""What the service says of itself."""

from marshmallow import Schema, fields


class Service(Schema):
    name = fields.String(required=True)
    version = fields.String(required=True)
    docs = fields.String(required=True)


class Health(Schema):
    status = fields.Constant("ok", required=True)
    timestamp = fields.AwareDateTime(required=True, format="iso")


class Alive(Schema):
    status = fields.Constant("alive", required=True)


class Ready(Schema):
    status = fields.Constant("ready", required=True)
