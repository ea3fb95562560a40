"""The statements on the idempotency keys of appends."""

from typing import LiteralString

from mai_sessions.repository.columns import PARENT_ID
from mai_sessions.repository.new_messages import KEPT_REPLY

# A key whose message is gone, or that is older than a day, is forgotten.
USED_KEY: LiteralString = """
           SELECT k.fingerprint, k.reply, m.id, m.seq, m.parent_seq, m.created_at
             FROM idempotency_keys AS k
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = k.id
            WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s
              AND k.created_at > now() - interval '1 day'"""
# Nothing if the session has moved. Release 0.1 stored no reply: then the message is returned as it is now.
GET_KEY: LiteralString = f"""
    SELECT /* append_messages */ m.fingerprint = %(fingerprint)s,
           coalesce(m.reply, json_build_object(
               'messages', json_build_array(json_build_array(m.id, m.seq, m.created_at, {PARENT_ID})),
               'session', NULL))
      FROM ({USED_KEY}) AS m
     WHERE NOT EXISTS (
           SELECT FROM sessions AS s
            WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s)"""

FORGET_KEY: LiteralString = f"""
    DELETE /* append_messages */ FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s
       AND NOT EXISTS ({USED_KEY})"""
# Release 0.1 reads seq and created_at.
KEEP_KEY: LiteralString = f"""
    INSERT /* append_messages */ INTO idempotency_keys AS k (user_id, path, key, fingerprint, id, seq,
                                                             created_at, reply)
    SELECT kept.user_id, %(path)s, %(key)s, %(fingerprint)s, kept.first_id, kept.first_seq, now(), kept.reply
      FROM ({KEPT_REPLY}) AS kept
        ON CONFLICT (user_id, path, key) DO NOTHING"""
