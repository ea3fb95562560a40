"""What all modes of authentication share: the check of a user id, and the 401 response."""

import re

from mai_sessions.errors import Unauthenticated

# The limit of the column `user_id`, in characters.
MAX_USER_ID = 255
# PostgreSQL cannot store U+0000, nor UTF-8 encode a surrogate.
_NO_TEXT = re.compile("[\0\ud800-\udfff]").search


def check_user_id(user_id: str, detail: str, challenge: str) -> str:
    """Return a user id that the database can hold. Raises Unauthenticated for any other.

    `challenge` is a scheme, and after a blank the parameters of its WWW-Authenticate header.
    """
    if not 1 <= len(user_id) <= MAX_USER_ID or _NO_TEXT(user_id):
        raise unauthenticated(detail, challenge)
    return user_id


def unauthenticated(detail: str, challenge: str) -> Unauthenticated:
    """Make the error of a request whose credentials are missing or wrong."""
    scheme, _, parameters = challenge.partition(" ")
    return Unauthenticated(detail, ", ".join(filter(None, [f'{scheme} realm="mai-sessions"', parameters])))
