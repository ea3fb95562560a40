"""The memory of a worker's clients: what has arrived of their requests, and what they have not taken of their
responses.
"""

from collections.abc import Mapping
from time import monotonic

from werkzeug.exceptions import ServiceUnavailable

from mai_sessions.config import Settings
from mai_sessions.server.client_socket import Client

# The limit for all clients together: the larger of a number of bytes, and a number of the largest bodies or
# responses.
MAX_HELD = 256 * 1024 * 1024
MAX_HELD_BODIES = 4
# A response of at most this size, in bytes, is also sent while the memory is short.
SMALL_RESPONSE = 1024 * 1024


class ClientMemory:
    """The bytes that all clients occupy, and their limit. The caller holds the lock of the worker.

    A request that a thread serves does not count; its response counts from its beginning.
    """

    def __init__(self, settings: Settings) -> None:
        self._held = 0
        self._limit = max(MAX_HELD, MAX_HELD_BODIES * max(settings.max_body, settings.max_response))

    @property
    def is_short(self) -> bool:
        """Return whether the clients hold more than the limit."""
        return self._held > self._limit

    def count(self, client: Client, held: int) -> None:
        """Count a client with these bytes, instead of those that it was counted with before."""
        self._held += held - client.counted
        client.counted = held

    def admit(self, client: Client, size: int, clients: Mapping[int, Client]) -> None:
        """Count the bytes of a response that has not begun.

        Raises ServiceUnavailable if they do not fit, even without those of the `clients` that are slow.
        """
        if size > SMALL_RESPONSE and self._held + size > self._limit:
            now = monotonic()
            slow = sum(other.counted for other in clients.values() if other.is_slow(now))
            if self._held + size - slow > self._limit:
                raise ServiceUnavailable
        self.count(client, size)

    @staticmethod
    def find_largest(clients: Mapping[int, Client]) -> int | None:
        """Return the descriptor of the client that has to make room for others: a slow one if there is one,
        else one that still sends its request, and of those the one with the most bytes.
        """
        now = monotonic()
        largest = max(
            (
                (client.is_slow(now), client.response is None, client.held, descriptor)
                for descriptor, client in clients.items()
                if client.held
            ),
            default=None,
        )
        return largest and largest[-1]
