"""Turn the nodes of an export into messages: unknown parents, cycles and dropped nodes are bridged."""

import heapq
from collections.abc import Mapping
from datetime import datetime

from mai_sessions.importers.model import Message


def break_cycles(parents: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the parents of nodes with None for an unknown parent and for one node of each cycle."""
    known: dict[str, str | None] = {
        node: parent if parent in parents else None for node, parent in parents.items()
    }
    rooted: set[str] = set()
    for node in known:
        path: dict[str, None] = {}
        current: str | None = node
        while current is not None and current not in rooted and current not in path:
            path[current] = None
            current = known[current]
        if current is not None and current in path:
            known[current] = None
        rooted.update(path)
    return known


def bridge(messages: Mapping[str, Message], parents: Mapping[str, str | None]) -> None:
    """Set each message's parent to its nearest kept ancestor. `parents` covers the dropped nodes too."""
    found: dict[str | None, str | None] = {None: None}
    for message in messages.values():
        path = []
        node = parents.get(message.id)
        while node not in found and node not in messages:
            path.append(node)
            node = parents.get(node) if node is not None else None
        ancestor = found.get(node, node)
        found.update(dict.fromkeys(path, ancestor))
        message.parent_id = ancestor


def fill_times(
    messages: Mapping[str, Message], parents_first: list[Message], default: datetime | None
) -> None:
    """Give a message without a time the time of its parent, and a first message that of the conversation,
    which is `default`.
    """
    for message in parents_first:
        if message.created_at is None:
            message.is_undated = True
            parent = messages.get(message.parent_id) if message.parent_id is not None else None
            message.created_at = parent.created_at if parent else default


def parents_first(messages: Mapping[str, Message]) -> list[Message]:
    """Order by time, but each parent before its children."""
    children: dict[str | None, list[int]] = {}
    listed = list(messages.values())
    for index, message in enumerate(listed):
        children.setdefault(message.parent_id, []).append(index)

    def entry(index: int, parent_time: float) -> tuple[float, int]:
        created_at = listed[index].created_at
        return (max(created_at.timestamp(), parent_time) if created_at else parent_time, index)

    ready = [entry(index, 0.0) for index in children.get(None, [])]
    heapq.heapify(ready)
    ordered = []
    while ready:
        time, index = heapq.heappop(ready)
        ordered.append(listed[index])
        for child in children.get(listed[index].id, []):
            heapq.heappush(ready, entry(child, time))
    return ordered


def in_file_order(messages: Mapping[str, Message]) -> list[Message]:
    """Keep the order of a file that has its parents first, and else order by time."""
    seen: set[str | None] = {None}
    for message in messages.values():
        if message.parent_id not in seen:
            return parents_first(messages)
        seen.add(message.id)
    return list(messages.values())


def shown_head(
    node: str, parents: Mapping[str, str | None], messages: Mapping[str, Message], ordered: list[Message]
) -> str | None:
    """Return the nearest kept ancestor of the node that an export points to, or else the newest leaf."""
    current: str | None = node
    while current is not None and current not in messages:
        current = parents.get(current)
    return current or newest_leaf(ordered)


def newest_leaf(ordered: list[Message]) -> str | None:
    """Return the newest message without children; of equally old ones the last."""
    inner = {message.parent_id for message in ordered}
    leaves = [message for message in ordered if message.id not in inner]
    return max(enumerate(leaves), key=lambda leaf: (_seconds(leaf[1]), leaf[0]))[1].id if leaves else None


def _seconds(message: Message) -> float:
    return message.created_at.timestamp() if message.created_at else 0.0
