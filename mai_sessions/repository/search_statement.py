"""The statement that searches titles and messages.

Results are read in windows. A window is the newest 200 messages and the newest 200 titles that match and are
older than the window before; in a window titles come first, then the best by ts_rank, then the newest.
What is written after the first page was read is left out of the pages that follow. If a clock was ahead, and
the first window has later times than now, what is written until its latest time is found as well.

A word in many messages makes a search slow if every row that matches is read to find the newest. So a sample
of the newest messages tells in which share of them the words are, and the first window takes the first of
these ways that yields one:

1. If that reads fewer rows than the index finds: all messages of the newest sessions, up to a session. All
   messages of the other sessions are older than the last write to that one, so newer matches are complete. If
   they are too few, or if the next window would read too many rows, what was found is the last window.
2. The index, for messages of the last eight to sixteen days, which have a key of their week.
3. The index, for all messages.

For a user with many sessions, a sample of titles decides whether to read titles in the first way. Otherwise
titles are found before they are put into order, because by an index of their age all would be read.
"""

from typing import LiteralString

_WINDOW: LiteralString = "200"
WINDOW = int(_WINDOW)
# The fewest messages of a last window: those of the longest page.
_FEWEST: LiteralString = "50"
# Below this number of messages of a user, no sample is read.
_FEW_MESSAGES: LiteralString = "1000"
# A word may be common if this number of the latest sessions have it: one may be about a rare word.
_SEVERAL: LiteralString = "2"
# The matches that are expected in the messages that are read.
_EXPECTED: LiteralString = "300"
# The titles with a common word that are read: more than a window, because the list is not in their order.
_READ_TITLES: LiteralString = "250"
# The most messages of a session that are read beyond the expected number.
_REST_OF_SESSION: LiteralString = "1000"
# The most matches that the index is asked for if there is another way: in a next window, and in the first.
_MOST_IN_NEXT_WINDOW: LiteralString = "100000"
_MOST_IN_WINDOW: LiteralString = "10000"

_MESSAGE_COLUMNS: LiteralString = "m.id, m.session_id, m.seq, m.role, m.created_at, m.content, m.words"
# The columns that _MESSAGE_FILTER reads.
_FILTERED_COLUMNS: LiteralString = "m.id, m.session_id, m.role, m.agent_name, m.model_id, m.created_at"
_MESSAGE_FILTER: LiteralString = """
               m.session_id = coalesce(%(session_id)s::uuid, m.session_id)
           AND m.role = ANY (%(roles)s)
           AND m.agent_name IS NOT DISTINCT FROM coalesce(%(agent_name)s, m.agent_name)
           AND m.model_id IS NOT DISTINCT FROM coalesce(%(model_id)s, m.model_id)
           AND m.created_at >= %(since)s AND m.created_at < %(until)s
           AND (m.created_at, m.id) < (%(messages_before)s, %(message_before)s)"""

_TITLE_FILTER: LiteralString = """
               t.session_id = coalesce(%(session_id)s::uuid, t.session_id)
           AND t.created_at >= %(since)s AND t.created_at < %(until)s
           AND (t.created_at, t.session_id) < (%(titles_before)s, %(title_before)s)
           AND (%(agent_name)s::text IS NULL AND %(model_id)s::text IS NULL OR EXISTS (
               SELECT FROM sessions AS s
                WHERE s.user_id = %(user_id)s AND s.id = t.session_id
                  AND s.agent_name = coalesce(%(agent_name)s, s.agent_name)
                  AND s.model_id IS NOT DISTINCT FROM coalesce(%(model_id)s, s.model_id)))"""


def _newest_sessions(limit: LiteralString) -> LiteralString:
    """Make the query of the sessions of a user that were last written, archived or not."""

    def in_range(archived: LiteralString) -> LiteralString:
        return f"""
                SELECT id, message_count, updated_at
                  FROM sessions
                 WHERE user_id = %(user_id)s AND archived = {archived}
                 ORDER BY updated_at DESC, id DESC
                 LIMIT {limit}"""

    return f"""
                SELECT id, message_count, updated_at
                  FROM (({in_range("false")})
                         UNION ALL
                        ({in_range("true")})) AS s
                 ORDER BY updated_at DESC, id DESC
                 LIMIT {limit}"""


SEARCH: LiteralString = f"""
    WITH /* search */ latest_sessions AS MATERIALIZED ({_newest_sessions("64")}),
    newest_week AS MATERIALIZED (
        SELECT floor(extract(epoch FROM least(%(until)s, %(messages_before)s, max(updated_at)))
                     / %(week_seconds)s)::int AS week
          FROM latest_sessions),
    size AS MATERIALIZED (
        SELECT u.session_count, greatest(avg(s.message_count), 1)::float8 AS messages_in_session,
               avg(s.message_count)::float8 * u.session_count AS message_count
          FROM latest_sessions AS s
         CROSS JOIN users AS u
         WHERE u.user_id = %(user_id)s AND %(may_be_common)s
         GROUP BY u.session_count),
    sample AS MATERIALIZED (
        SELECT sum(m.size)::float8 AS size, sum(m.matches)::float8 AS matches,
               count(*) FILTER (WHERE m.matches > 0) >= least({_SEVERAL}, count(*)) AS is_common
          FROM (SELECT id FROM latest_sessions LIMIT 16) AS s
         CROSS JOIN LATERAL (
               SELECT count(*) AS size, count(*) FILTER (WHERE {_MESSAGE_FILTER}
                                                           AND m.words @@ %(query)s::tsquery) AS matches
                 FROM (SELECT {_FILTERED_COLUMNS}, m.words
                         FROM messages AS m
                        WHERE m.user_id = %(user_id)s AND m.session_id = s.id
                        ORDER BY m.seq DESC
                        LIMIT 3) AS m) AS m
         WHERE (SELECT message_count > {_FEW_MESSAGES} FROM size)),
    title_sample AS MATERIALIZED (
        SELECT count(*) FILTER (WHERE t.words @@ %(query)s::tsquery) * 4 >= greatest(count(*), 4) AS is_common
          FROM (SELECT id FROM latest_sessions LIMIT 16) AS s
         CROSS JOIN LATERAL (
               SELECT t.words
                 FROM session_titles AS t
                WHERE t.user_id = %(user_id)s AND t.session_id = s.id
               OFFSET 0) AS t
         WHERE (SELECT session_count > 500 FROM size) AND %(with_titles)s),
    estimate AS MATERIALIZED (
        SELECT z.message_count * s.matches / s.size AS matches, n.messages,
               (1.5 * n.messages / z.messages_in_session)::int AS sessions
          FROM sample AS s
         CROSS JOIN size AS z
         CROSS JOIN LATERAL (SELECT ({_EXPECTED} * s.size / nullif(s.matches, 0))::int AS messages) AS n
         WHERE s.is_common AND n.messages < z.message_count * s.matches / s.size),
    newest_sessions AS MATERIALIZED (
        SELECT s.id, s.updated_at, s.message_count > e.messages + {_REST_OF_SESSION} AS is_long,
               s.place <= e.sessions AND s.up_to_here - s.message_count < e.messages AS is_read
          FROM estimate AS e
         CROSS JOIN LATERAL (
               SELECT s.id, s.updated_at, s.message_count, row_number() OVER newest_first AS place,
                      sum(s.message_count) OVER newest_first AS up_to_here
                 FROM ({_newest_sessions("e.sessions + 1")}) AS s
               WINDOW newest_first AS (ORDER BY s.updated_at DESC, s.id DESC)) AS s),
    common_messages AS MATERIALIZED (
        SELECT {_MESSAGE_COLUMNS}
          FROM newest_sessions AS s
         CROSS JOIN LATERAL (
               SELECT {_FILTERED_COLUMNS}, m.seq, m.content, m.words
                 FROM messages AS m
                WHERE m.user_id = %(user_id)s AND m.session_id = s.id
                ORDER BY m.seq DESC
                LIMIT (SELECT messages + {_REST_OF_SESSION} FROM estimate)) AS m
         WHERE s.is_read AND {_MESSAGE_FILTER}
           AND m.words @@ %(query)s::tsquery
         ORDER BY m.created_at DESC, m.id DESC
         LIMIT {_WINDOW}),
    read_part AS MATERIALIZED (
        SELECT coalesce(max(updated_at) FILTER (WHERE NOT is_read), '-infinity') AS read_to,
               coalesce(NOT bool_or(is_read AND is_long), false) AS is_whole
          FROM newest_sessions),
    common AS MATERIALIZED (
        SELECT n.is_exact,
               NOT n.is_exact AND (SELECT count(*) FROM common_messages) >= {_FEWEST}
               AND (SELECT matches > {_MOST_IN_WINDOW} FROM estimate) AS is_last
          FROM read_part AS r
         CROSS JOIN LATERAL (
               SELECT r.is_whole AND (SELECT matches <= {_MOST_IN_NEXT_WINDOW} FROM estimate)
                      AND (count(*) = {_WINDOW} OR NOT isfinite(r.read_to)) AS is_exact
                 FROM common_messages AS m
                WHERE m.created_at > r.read_to) AS n),
    recent_messages AS MATERIALIZED (
        SELECT {_MESSAGE_COLUMNS}
          FROM messages AS m
         WHERE m.user_id = %(user_id)s AND {_MESSAGE_FILTER}
           AND m.words @@ (
               SELECT format(%(recent_query)s, to_hex(week), to_hex(week - 1), week,
                             week - 1)::tsquery FROM newest_week)
           AND NOT (SELECT is_exact OR is_last FROM common)
         ORDER BY m.created_at DESC, m.id DESC
         LIMIT {_WINDOW}),
    all_messages AS MATERIALIZED (
        SELECT {_MESSAGE_COLUMNS}
          FROM messages AS m
         WHERE m.user_id = %(user_id)s AND {_MESSAGE_FILTER}
           AND m.words @@ %(query)s::tsquery
           AND NOT (SELECT is_exact OR is_last FROM common)
           AND (SELECT count(*) FROM recent_messages) < {_WINDOW}
         ORDER BY m.created_at DESC, m.id DESC
         LIMIT {_WINDOW}),
    found_messages AS (
        SELECT {_MESSAGE_COLUMNS}, sum(octet_length(m.content)) OVER newest_first AS compared,
               row_number() OVER newest_first AS place
          FROM (SELECT {_MESSAGE_COLUMNS}
                  FROM common_messages AS m
                 WHERE (SELECT is_exact OR is_last FROM common)
                 UNION ALL
                SELECT {_MESSAGE_COLUMNS}
                  FROM recent_messages AS m
                 WHERE (SELECT count(*) FROM recent_messages) = {_WINDOW}
                 UNION ALL
                SELECT {_MESSAGE_COLUMNS}
                  FROM all_messages AS m) AS m
        WINDOW newest_first AS (ORDER BY m.created_at DESC, m.id DESC)),
    messages_in_window AS MATERIALIZED (
        SELECT {_MESSAGE_COLUMNS}
          FROM found_messages AS m
         WHERE m.compared <= %(max_compared)s OR m.place = 1),
    common_titles AS MATERIALIZED (
        SELECT t.session_id, t.created_at, t.words, s.updated_at
          FROM ({_newest_sessions("2000")}) AS s
         CROSS JOIN LATERAL (
               SELECT t.session_id, t.created_at, t.words
                 FROM session_titles AS t
                WHERE t.user_id = %(user_id)s AND t.session_id = s.id
               OFFSET 0) AS t
         WHERE (SELECT is_common FROM title_sample)
           AND t.words @@ %(query)s::tsquery AND {_TITLE_FILTER}
         LIMIT {_READ_TITLES}),
    common_title AS MATERIALIZED (
        SELECT n.is_exact, NOT n.is_exact AND r.size >= {_WINDOW}
               AND (SELECT session_count > {_MOST_IN_WINDOW} FROM size) AS is_last
          FROM (SELECT count(*) AS size, min(updated_at) AS read_to FROM common_titles) AS r
         CROSS JOIN LATERAL (
               SELECT count(*) >= {_WINDOW} AS is_exact
                 FROM common_titles AS t
                WHERE t.created_at > r.read_to) AS n),
    found_titles AS MATERIALIZED (
        SELECT t.session_id, t.created_at, t.words
          FROM (SELECT t.session_id, t.created_at, t.words
                  FROM session_titles AS t
                 WHERE t.user_id = %(user_id)s AND t.words @@ %(query)s::tsquery
                   AND %(with_titles)s AND NOT (SELECT is_exact OR is_last FROM common_title)
                OFFSET 0) AS t
         WHERE {_TITLE_FILTER}
         ORDER BY t.created_at DESC, t.session_id DESC
         LIMIT {_WINDOW}),
    titles AS MATERIALIZED (
        SELECT t.session_id, t.created_at, t.words
          FROM (SELECT session_id, created_at, words
                  FROM common_titles
                 WHERE (SELECT is_exact OR is_last FROM common_title)
                 UNION ALL
                SELECT session_id, created_at, words
                  FROM found_titles) AS t
         ORDER BY t.created_at DESC, t.session_id DESC
         LIMIT {_WINDOW}),
    ranked AS (
        SELECT session_id AS id, session_id, NULL::int AS seq, NULL AS role, created_at, NULL AS content,
               1 + ts_rank(words, %(query)s::tsquery)::float8 AS rank
          FROM titles
         UNION ALL
        SELECT id, session_id, seq, role, created_at, content, ts_rank(words, %(query)s::tsquery)::float8
          FROM messages_in_window),
    page AS (
        SELECT id, session_id, seq, role, created_at, content, rank
          FROM ranked
         WHERE (rank, created_at, id) < (%(after_rank)s, %(after_created_at)s, %(after_id)s)
         ORDER BY rank DESC, created_at DESC, id DESC
         LIMIT %(limit)s + 1),
    window_end AS (
        SELECT c.is_last OR ct.is_last AS is_last, m.created_at AS messages_before, m.id AS message_before,
               t.created_at AS titles_before, t.session_id AS title_before
          FROM common AS c
         CROSS JOIN common_title AS ct
          LEFT JOIN (SELECT created_at, id FROM messages_in_window
                      WHERE (SELECT count(*) = {_WINDOW}
                             OR count(*) > (SELECT count(*) FROM messages_in_window) FROM found_messages)
                      ORDER BY created_at, id LIMIT 1) AS m ON true
          LEFT JOIN (SELECT created_at, session_id FROM titles
                      WHERE (SELECT count(*) FROM titles) = {_WINDOW}
                      ORDER BY created_at, session_id LIMIT 1) AS t ON true)
    SELECT e.is_last, e.messages_before, e.message_before, e.titles_before, e.title_before,
           greatest(now(), (SELECT max(created_at) + interval '1 microsecond' FROM messages_in_window),
                    (SELECT max(created_at) + interval '1 microsecond' FROM titles)), p.rank, p.created_at,
           p.id, p.session_id,
           (SELECT s.title FROM sessions AS s WHERE s.user_id = %(user_id)s AND s.id = p.session_id),
           p.seq, p.role, left(p.content, %(max_characters)s), to_json(p.created_at)
      FROM window_end AS e
      LEFT JOIN page AS p ON true
     ORDER BY p.rank DESC, p.created_at DESC, p.id DESC"""
