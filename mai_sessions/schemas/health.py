"""Bodies of the health checks."""

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


class PoolStats(Schema):
    """The database connections of the process that responds."""

    pool_max = fields.Integer(required=True, strict=True, metadata={"description": "The most connections"})
    pool_size = fields.Integer(required=True, strict=True, metadata={"description": "Open connections"})
    pool_available = fields.Integer(required=True, strict=True, metadata={"description": "Idle connections"})
    requests_waiting = fields.Integer(
        required=True, strict=True, metadata={"description": "Requests that wait for a connection"}
    )


class ReplicaHealth(PoolStats):
    """The replica. The state of the service does not depend on it."""

    ok = fields.Boolean(required=True)
    error = fields.String(metadata={"description": "Only if it is not ok"})
    lag_seconds = fields.Float(
        allow_none=True, metadata={"description": "How far it lags behind, or null if that is unknown"}
    )


class ExpiryHealth(Schema):
    """The removal of expired rows by the workers of this host."""

    last_run = fields.AwareDateTime(
        required=True, format="iso", allow_none=True, metadata={"description": "null before the first"}
    )
    overdue = fields.Integer(
        required=True,
        strict=True,
        metadata={"description": "Rows that should have expired an hour before it"},
    )


class OldWords(Schema):
    """Rows whose words the search knows by the rules of an older release; `mai-sessions reindex` writes them
    again.
    """

    messages = fields.Integer(required=True, strict=True)
    titles = fields.Integer(required=True, strict=True)


class NodeCounts(Schema):
    """The nodes of the Citus cluster; users whose rows are on an unreachable one get 503."""

    total = fields.Integer(required=True, strict=True)
    unreachable = fields.Integer(required=True, strict=True)


class DatabaseDetails(PoolStats):
    expiry = fields.Nested(
        ExpiryHealth, metadata={"description": "Not where the API is part of another application"}
    )
    old_words = fields.Nested(
        OldWords, metadata={"description": "Only while the database responds and its schema is current"}
    )
    nodes = fields.Nested(NodeCounts, metadata={"description": "Only on a Citus cluster"})
    replica = fields.Nested(ReplicaHealth, metadata={"description": "Only if there is one"})


class ServiceHealth(Schema):
    ok = fields.Boolean(required=True)
    latency_ms = fields.Float(required=True, metadata={"minimum": 0})
    error = fields.String(metadata={"description": "Only if it is not ok"})
    details = fields.Nested(DatabaseDetails, required=True)


class Services(Schema):
    """The services that this one needs."""

    postgres = fields.Nested(ServiceHealth, required=True)


class DetailedHealth(Schema):
    status = fields.String(
        required=True,
        metadata={
            "enum": ["healthy", "degraded", "unhealthy"],
            "description": "degraded: requests wait for a connection, or a node of the Citus cluster cannot "
            "be reached; unhealthy: the database does not respond, or has the schema of an older release",
        },
    )
    services = fields.Nested(Services, required=True)
    total_latency_ms = fields.Float(required=True, metadata={"minimum": 0})
    timestamp = fields.AwareDateTime(required=True, format="iso")
    version = fields.String(required=True)
