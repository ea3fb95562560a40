"""The newest messages of a session, for the adapters."""

from mai_sessions_client._async import AsyncClient
from mai_sessions_client.errors import Invalid
from mai_sessions_client.models import Message

_PAGE = 500


async def newest_messages(
    client: AsyncClient, session_id: str, limit: int | None, *, head_id: str | None = None
) -> list[Message]:
    """Return the newest `limit` messages of a branch, or all, oldest first."""
    if limit is not None and limit <= _PAGE:
        try:
            session = await client.get_session(session_id, messages_limit=limit, head_id=head_id)
        except Invalid as error:
            if not error.is_too_large:
                raise
        else:
            return session.messages
    messages = [message async for message in client.messages(session_id, head_id=head_id)]
    return messages if limit is None else messages[max(0, len(messages) - limit) :]
