"""The statements of the analytics.

The analytics read `daily_usage`: the sums of a session's messages on a day, in all and by agent and model.
Each sum knows between which moments its messages were made. Where an edge of the window goes through one, the
messages themselves are read, only there.

A sum for each user and day would be read faster, but all appends of a user would queue on its row.
bench/README.md has the costs.
"""

from datetime import date, datetime
from typing import LiteralString, NamedTuple, TypedDict, Unpack

from mai_sessions.postgres.connection import Connection, fetch_all, fetch_one


class Window(TypedDict):
    """A span of time: from `since`, before `until`.

    `days` is the number of days in UTC that it touches; 0 means that it is empty.
    """

    since: datetime
    until: datetime
    first_day: date
    days: int


_USED: LiteralString = """
        SELECT d.day, d.agent_name, d.model_id, d.session_id, d.message_count, d.token_count, d.error_count,
               d.timed_count, d.response_time_ms
          FROM daily_usage AS d
         WHERE d.user_id = %(user_id)s AND d.part = ANY (%(day_parts)s)
           AND d.day >= %(first_day)s AND d.day < %(first_day)s + %(days)s::int
           AND d.first_at >= %(since)s AND d.last_at < %(until)s AND d.message_count > 0
         UNION ALL
        SELECT d.day, d.agent_name, d.model_id, d.session_id, count(*)::int, sum(m.token_count),
               (count(*) FILTER (WHERE m.is_error))::int, count(m.response_time_ms)::int,
               coalesce(sum(m.response_time_ms::numeric), 0)
          FROM daily_usage AS d
         CROSS JOIN LATERAL (
               SELECT m.role, m.token_count, m.model_id, m.agent_name, m.response_time_ms, m.is_error,
                      m.created_at
                 FROM messages AS m
                WHERE m.user_id = %(user_id)s AND m.session_id = d.session_id
                  AND m.seq BETWEEN d.first_seq AND d.last_seq
                -- By the primary key. Another index would read every message of the session.
                ORDER BY m.seq) AS m
         WHERE (d.part = 'total'
                OR (d.part = CASE m.role WHEN 'assistant' THEN 'assistant' ELSE 'other' END
                    AND d.agent_name = coalesce(m.agent_name, '') AND d.model_id = coalesce(m.model_id, '')))
           AND d.user_id = %(user_id)s AND d.part = ANY (%(day_parts)s)
           AND d.day IN (%(first_day)s, %(first_day)s + (%(days)s::int - 1))
           AND d.first_at < %(until)s AND d.last_at >= %(since)s
           AND (d.first_at < %(since)s OR d.last_at >= %(until)s)
           AND m.created_at >= %(since)s AND m.created_at < %(until)s
           AND (m.created_at AT TIME ZONE 'UTC')::date = d.day
         GROUP BY 1, 2, 3, 4"""


USAGE: LiteralString = f"""
    WITH /* get_usage */ used AS ({_USED}),
    by_day AS (
        SELECT day, sum(message_count) AS messages, sum(token_count)::bigint AS tokens, count(*) AS sessions,
               sum(timed_count) AS timed, sum(response_time_ms) AS response_time_ms
          FROM used
         GROUP BY day)
    SELECT row_to_json(r) FROM (
           SELECT coalesce(sum(messages), 0)::bigint AS total_messages,
                  coalesce(sum(tokens), 0)::bigint AS total_tokens, (
                  SELECT count(*)
                    FROM sessions AS s
                   WHERE s.user_id = %(user_id)s AND s.created_at >= %(since)s AND s.created_at < %(until)s
                     -- updated_at is never before created_at, and both values of archived are ranges of an
                     -- index.
                     AND s.archived = ANY ('{{false,true}}') AND s.updated_at >= %(since)s) AS total_sessions,
                  round(sum(response_time_ms) / nullif(sum(timed), 0), 2)::float8 AS avg_response_time_ms, (
                  SELECT coalesce(array_to_json(array_agg(d)), '[]')
                    FROM (SELECT %(first_day)s + n AS date, coalesce(messages, 0) AS messages,
                                 coalesce(tokens, 0) AS tokens, coalesce(sessions, 0) AS sessions
                            FROM generate_series(0, %(days)s::int - 1) AS n
                            LEFT JOIN by_day ON day = %(first_day)s + n
                           ORDER BY n) AS d) AS daily_usage
             FROM by_day) AS r"""


def get_usage(conn: Connection, user_id: str, **window: Unpack[Window]) -> bytes:
    """Read the totals of the window and of each of its days, as JSON."""
    return _read(conn, USAGE, user_id, ["total"], window)


AGENTS: LiteralString = f"""
    WITH /* get_agents */ used AS ({_USED}),
    by_agent AS (
        SELECT CASE agent_name WHEN '' THEN 'unknown' ELSE agent_name END AS name,
               sum(message_count) AS usage_count, sum(token_count)::bigint AS total_tokens,
               round(sum(response_time_ms) / nullif(sum(timed_count), 0), 2)::float8 AS avg_response_time_ms,
               sum(error_count) AS error_count,
               round(100.0 * sum(error_count) / sum(message_count), 2)::float8 AS error_rate
          FROM used
         GROUP BY 1)
    SELECT row_to_json(r) FROM (
           SELECT coalesce(array_to_json(array_agg(a ORDER BY usage_count DESC, name)), '[]') AS agents,
                  coalesce(sum(usage_count), 0)::bigint AS total_calls
             FROM by_agent AS a) AS r"""


def get_agents(conn: Connection, user_id: str, **window: Unpack[Window]) -> bytes:
    """Read the usage of each agent in the window, most used first, as JSON."""
    return _read(conn, AGENTS, user_id, ["assistant"], window)


MODELS: LiteralString = f"""
    WITH /* get_models */ used AS ({_USED})
    SELECT model_id, sum(message_count), sum(token_count)::bigint
      FROM used
     WHERE model_id <> ''
     GROUP BY model_id
     ORDER BY 2 DESC, 1"""


class ModelUsage(NamedTuple):
    """How many messages a model wrote, and their tokens."""

    model_id: str
    usage_count: int
    total_tokens: int


def get_models(conn: Connection, user_id: str, **window: Unpack[Window]) -> list[ModelUsage]:
    """Read how much each model wrote in the window, most used first."""
    params = {"user_id": user_id, "day_parts": ["assistant", "other"], **window}
    return [ModelUsage(*row) for row in fetch_all(conn, MODELS, params)]


SUMMARY: LiteralString = f"""
    WITH /* get_summary */ used AS ({_USED})
    SELECT row_to_json(r) FROM (
           SELECT coalesce(sum(message_count), 0) AS total_messages, (
                  SELECT count(*)
                    FROM sessions AS s
                   WHERE s.user_id = %(user_id)s AND s.archived = ANY ('{{false,true}}')
                     AND s.updated_at >= now() - interval '7 days') AS active_sessions,
                  coalesce(sum(token_count), 0)::bigint AS total_tokens,
                  round(sum(response_time_ms) / nullif(sum(timed_count), 0),
                        2)::float8 AS avg_response_time_ms
             FROM used) AS r"""


def get_summary(conn: Connection, user_id: str, **window: Unpack[Window]) -> bytes:
    """Read the totals of the window, and the number of sessions with writes in the last 7 days, as JSON."""
    return _read(conn, SUMMARY, user_id, ["total"], window)


def _read(
    conn: Connection, statement: LiteralString, user_id: str, parts: list[str], window: Window
) -> bytes:
    row = fetch_one(conn, statement, {"user_id": user_id, "day_parts": parts, **window})
    assert row is not None
    body: bytes = row[0]
    return body
