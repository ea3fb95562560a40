"""Files inside structured content: the service keeps them as attachments, a model needs their bytes."""

import base64
import re
from typing import Any

from mai_sessions_client.async_client import AsyncClient
from mai_sessions_client.errors import NotFound

_LINK = re.compile(r"(?:https?://[^/]+)?/(?:[^?#]*/)?api/v1/attachments/[0-9a-f]{64}(?:\?[^#]*)?")


async def with_bytes(client: AsyncClient, value: Any) -> Any:
    """Give JSON with each link to an attachment of the user replaced by the data URL that was stored."""
    if isinstance(value, dict):
        return {key: await with_bytes(client, item) for key, item in value.items()}
    if isinstance(value, list):
        return [await with_bytes(client, item) for item in value]
    if isinstance(value, str) and _LINK.fullmatch(value):
        try:
            attachment = await client.get_attachment(value)
        except (NotFound, ValueError):
            # Text that looks like a link: nothing of this service's, or nothing of this user's.
            return value
        return f"data:{attachment.content_type};base64,{base64.b64encode(attachment.content).decode()}"
    return value
