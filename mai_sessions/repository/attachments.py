"""The statements on attachments. Those that append and delete messages move their `reference_count`.

The sessions of one user share attachments, so every writer locks their rows in the order of their names, after the
row of its session.
"""

from typing import LiteralString

from mai_sessions.content.attachments import Attachment
from mai_sessions.errors import NotFound
from mai_sessions.postgres.connection import Connection, fetch_one

GET_ATTACHMENT: LiteralString = """
    SELECT /* get_attachment */ a.sha256, a.content_type, a.content, a.file_name
      FROM attachments AS a
     WHERE a.user_id = %(user_id)s AND a.sha256 = %(sha256)s"""


def get_attachment(conn: Connection, user_id: str, sha256: str) -> Attachment:
    """Read an attachment. Raises NotFound."""
    row = fetch_one(conn, GET_ATTACHMENT, {"user_id": user_id, "sha256": sha256}, binary=True)
    if row is None:
        raise NotFound("Attachment not found")
    return Attachment(*row)


def release_attachments(messages: LiteralString) -> LiteralString:
    """Make the statement that takes the references of messages away.

    `messages` is a query for the `images` and `part_attachments` of each. A message refers once to an attachment,
    however often it names it.
    """
    return f"""
    UPDATE /* release_attachments */ attachments AS a
       SET reference_count = a.reference_count - locked.messages
      FROM (SELECT l.sha256, named.messages
              FROM (SELECT i.sha256, count(*)::int AS messages
                      FROM ({messages}) AS m
                     CROSS JOIN LATERAL (SELECT DISTINCT unnest(m.images || m.part_attachments) AS sha256) AS i
                     GROUP BY i.sha256) AS named
              JOIN attachments AS l ON l.user_id = %(user_id)s AND l.sha256 = named.sha256
             ORDER BY l.sha256
               FOR UPDATE OF l) AS locked
     WHERE a.user_id = %(user_id)s AND a.sha256 = locked.sha256"""


SWEEP_ATTACHMENTS: LiteralString = """
    DELETE /* sweep_attachments */ FROM attachments AS a
     WHERE a.user_id = %(user_id)s AND a.reference_count = 0"""
