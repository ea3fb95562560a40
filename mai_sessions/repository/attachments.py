"""The statements on attachments. Those that append and delete messages move their `reference_count`.

The sessions of one user share attachments, so every writer locks their rows in the order of their names,
after the rows of its session and of its user. A row that is not there cannot be locked, so those that may add
one come one after the other.
"""

from collections.abc import Iterable
from typing import Any, LiteralString

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
    """Make the statement that subtracts the references of messages.

    `messages` is a query for the `images` and `part_attachments` of each. A message refers once to an
    attachment, however often it names it.
    """
    return f"""
    UPDATE /* release_attachments */ attachments AS a
       SET reference_count = a.reference_count - locked.messages
      FROM (SELECT l.sha256, named.messages
              FROM (SELECT i.sha256, count(*)::int AS messages
                      FROM ({messages}) AS m
                     CROSS JOIN LATERAL (SELECT DISTINCT unnest(m.images || m.part_attachments) AS sha256)
                                        AS i
                     GROUP BY i.sha256) AS named
              JOIN attachments AS l ON l.user_id = %(user_id)s AND l.sha256 = named.sha256
             ORDER BY l.sha256
               FOR UPDATE OF l) AS locked
     WHERE a.user_id = %(user_id)s AND a.sha256 = locked.sha256"""


def store_attachments(messages: LiteralString) -> LiteralString:
    """Make the statement that stores uploaded attachments, each referred to by the messages that name it.

    `messages` is a query for the `images` and `part_attachments` of each.
    """
    return f"""
    INSERT /* store_attachments */ INTO attachments AS a (
           user_id, sha256, content_type, size, reference_count, content, file_name)
    SELECT s.user_id, n.sha256, n.content_type, octet_length(n.content), named.messages, n.content,
           n.file_name
      FROM sessions AS s
     CROSS JOIN unnest(%(sha256s)s::text[], %(content_types)s::text[], %(contents)b::bytea[],
                  %(file_names)s::text[])
           AS n (sha256, content_type, content, file_name)
      JOIN (SELECT i.sha256, count(*)::int AS messages
              FROM ({messages}) AS m
             CROSS JOIN LATERAL (SELECT DISTINCT unnest(m.images || m.part_attachments) AS sha256) AS i
             GROUP BY i.sha256) AS named ON named.sha256 = n.sha256
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
        ON CONFLICT (user_id, sha256) DO UPDATE
       SET reference_count = a.reference_count + excluded.reference_count,
           file_name       = coalesce(a.file_name, excluded.file_name)"""


def refer_to_attachments(messages: LiteralString) -> LiteralString:
    """Make the statement that counts what messages link to, except what they upload.

    `messages` is a query for the `images` and `part_attachments` of each.
    """
    return f"""
    UPDATE /* refer_to_attachments */ attachments AS a
       SET reference_count = a.reference_count + named.messages
      FROM (SELECT i.sha256, count(*)::int AS messages
              FROM ({messages}) AS m
             CROSS JOIN LATERAL (SELECT DISTINCT unnest(m.images || m.part_attachments) AS sha256) AS i
             GROUP BY i.sha256) AS named
     WHERE a.user_id = %(user_id)s AND a.sha256 = named.sha256 AND a.sha256 <> ALL (%(sha256s)s::text[])"""


# Every writer that stores attachments or links to them runs both, so that writers do not deadlock. While the
# first lock is held, no other writer can add a row that the second one has missed.
LOCK_UPLOADS: LiteralString = """
    SELECT /* lock_uploads */ pg_advisory_xact_lock(hashtextextended('mai_sessions uploads ' || s.user_id, 0))
      FROM sessions AS s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""


def lock_attachments(names: LiteralString) -> LiteralString:
    """Make the statement that locks attachments, those of an array of SHA-256."""
    return f"""
    SELECT /* lock_attachments */ a.sha256
      FROM attachments AS a
     WHERE a.user_id = %(user_id)s AND a.sha256 = ANY ({names})
     ORDER BY a.sha256
       FOR UPDATE"""


LOCK_ATTACHMENTS: LiteralString = lock_attachments("%(named_sha256s)s::text[]")

# A link in parts to an unknown attachment is plain text.
DROP_UNKNOWN_LINKS: LiteralString = """
    UPDATE /* drop_unknown_links */ messages AS m
       SET part_attachments = ARRAY (
           SELECT l.sha256
             FROM unnest(m.part_attachments) WITH ORDINALITY AS l (sha256, place)
            WHERE l.sha256 = ANY (%(sha256s)s::text[])
               OR EXISTS (SELECT FROM attachments AS a WHERE a.user_id = %(user_id)s AND a.sha256 = l.sha256)
            ORDER BY l.place)
      FROM sessions AS s
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = ANY (%(message_ids)s::uuid[])
       AND m.part_attachments <> '{}'
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""


def attachment_params(attachments: Iterable[Attachment], linked: Iterable[str]) -> dict[str, list[Any]]:
    """The parameters of these statements: attachments to store, and the SHA-256 of what is linked to
    besides.
    """
    stored = {attachment.sha256: attachment for attachment in attachments}
    ordered = [stored[sha256] for sha256 in sorted(stored)]
    return {
        "sha256s": [attachment.sha256 for attachment in ordered],
        "content_types": [attachment.content_type for attachment in ordered],
        "contents": [attachment.content for attachment in ordered],
        "file_names": [attachment.file_name for attachment in ordered],
        "named_sha256s": sorted({*stored, *linked}),
    }


SWEEP_ATTACHMENTS: LiteralString = """
    DELETE /* sweep_attachments */ FROM attachments AS a
     WHERE a.user_id = %(user_id)s AND a.reference_count = 0"""
