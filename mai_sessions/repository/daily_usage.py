"""The statement that maintains `daily_usage`: the sums of a session's messages on a day, in all and by agent
and model.
"""

from typing import LiteralString

# The rows of a day that a message `m` counts in.
PARTS: LiteralString = """
           SELECT 'total' AS part, '' AS agent_name, '' AS model_id
            UNION ALL
           SELECT CASE m.role WHEN 'assistant' THEN 'assistant' ELSE 'other' END, coalesce(m.agent_name, ''),
                  coalesce(m.model_id, '')
            WHERE m.role = 'assistant' OR m.model_id <> ''"""
ADD_UP: LiteralString = """ON CONFLICT (user_id, session_id, day, part, agent_name, model_id) DO UPDATE
       SET first_at         = LEAST(d.first_at, excluded.first_at),
           last_at          = GREATEST(d.last_at, excluded.last_at),
           first_seq        = LEAST(d.first_seq, excluded.first_seq),
           last_seq         = GREATEST(d.last_seq, excluded.last_seq),
           message_count    = d.message_count + excluded.message_count,
           token_count      = d.token_count + excluded.token_count,
           error_count      = d.error_count + excluded.error_count,
           timed_count      = d.timed_count + excluded.timed_count,
           response_time_ms = d.response_time_ms + excluded.response_time_ms"""


def count_messages(messages: LiteralString) -> LiteralString:
    """Make the statement that counts messages in and out.

    `messages` is a query for them, each with a `sign`: 1 counts it in, -1 counts it out. The caller holds
    the lock of the session's row, so no other writer changes the same sums.
    """
    return f"""
    INSERT /* count_messages */ INTO daily_usage AS d (
           user_id, session_id, day, part, agent_name, model_id, first_at, last_at, first_seq, last_seq,
           message_count, token_count, error_count, timed_count, response_time_ms)
    SELECT m.user_id, m.session_id, (m.created_at AT TIME ZONE 'UTC')::date, p.part, p.agent_name, p.model_id,
           min(m.created_at), max(m.created_at), min(m.seq), max(m.seq), sum(m.sign),
           sum(m.sign * m.token_count::bigint), sum(m.sign * m.is_error::int),
           sum(m.sign * (m.response_time_ms IS NOT NULL)::int),
           sum(m.sign * coalesce(m.response_time_ms, 0)::numeric)
      FROM ({messages}) AS m
     CROSS JOIN LATERAL ({PARTS}) AS p
     GROUP BY 1, 2, 3, 4, 5, 6
        {ADD_UP}"""
