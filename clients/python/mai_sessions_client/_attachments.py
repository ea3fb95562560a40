"""Files inside structured content. The service stores them as attachments; a model needs their bytes."""

import base64
from collections.abc import Collection, Iterator
from typing import Any

from mai_sessions_client._async import AsyncClient
from mai_sessions_client.errors import NotFound


def data_url_pointers(value: Any) -> list[str]:
    """Return the JSON pointers (RFC 6901) of the data URLs in `value`.

    The service replaces large data URLs by links. The pointers tell these links from text that looks like
    one.
    """
    if isinstance(value, str):
        return [""] if value.startswith("data:") else []
    return [f"{key}{rest}" for key, item in _members(value) for rest in data_url_pointers(item)]


async def with_bytes(client: AsyncClient, value: Any, pointers: Collection[str]) -> Any:
    """Return a copy of `value` with data URLs in place of the links at `pointers`."""
    if isinstance(value, str):
        return await _data_url(client, value) if "" in pointers else value
    restored = value.copy() if isinstance(value, dict | list) else value
    for (key, item), place in zip(_members(value), _places(value), strict=True):
        below = [
            pointer.removeprefix(key)
            for pointer in pointers
            if pointer == key or pointer.startswith(f"{key}/")
        ]
        if below:
            restored[place] = await with_bytes(client, item, below)
    return restored


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the members of an object or array, each with its token of a JSON pointer."""
    for place in _places(value):
        yield "/" + str(place).replace("~", "~0").replace("/", "~1"), value[place]


def _places(value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        return list(value)
    return range(len(value)) if isinstance(value, list) else ()


async def _data_url(client: AsyncClient, link: str) -> str:
    """Return the data URL that became `link`. The service leaves small data URLs as they are."""
    if link.startswith("data:"):
        return link
    try:
        attachment = await client.get_attachment(link)
    except (NotFound, ValueError):
        return link
    return f"data:{attachment.content_type};base64,{base64.b64encode(attachment.content).decode()}"
