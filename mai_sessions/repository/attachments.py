"""The statements on attachments. Those that append and delete messages move their `reference_count`."""

from typing import LiteralString

from mai_sessions.content.attachments import Attachment
from mai_sessions.errors import NotFound
from mai_sessions.postgres.connection import Connection, fetch_one

GET_ATTACHMENT: LiteralString = """
    SELECT /* attachment */ sha256, content_type, content
      FROM attachments
     WHERE user_id = %(user_id)s AND sha256 = %(sha256)s"""


def attachment(conn: Connection, user_id: str, sha256: str) -> Attachment:
    """Read an attachment. Raises NotFound."""
    row = fetch_one(conn, GET_ATTACHMENT, {"user_id": user_id, "sha256": sha256}, binary=True)
    if row is None:
        raise NotFound("Attachment not found")
    return Attachment(*row)


SWEEP_ATTACHMENTS: LiteralString = """
    DELETE /* sweep_attachments */ FROM attachments WHERE user_id = %(user_id)s AND reference_count = 0"""


def sweep_attachments(conn: Connection, user_id: str) -> None:
    """Remove what no message refers to any more."""
    fetch_one(conn, SWEEP_ATTACHMENTS, {"user_id": user_id})
