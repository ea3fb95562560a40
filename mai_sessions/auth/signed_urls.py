"""Signed URLs of attachments, for an `<img>`, which cannot send a bearer token.

A URL is signed for one user and one attachment, and expires.
"""

import hmac
import time
from urllib.parse import quote


class UrlSigner:
    """Signs and verifies. Every process with the same key makes and accepts the same signatures.

    A URL is valid for at least `lifetime` seconds and at most twice that: all URLs of a period of that length
    expire together, so a response stays the same for that long, and so does its ETag, which names the period.
    """

    def __init__(self, key: bytes, lifetime: int) -> None:
        self._key = key
        self._lifetime = lifetime

    def period(self) -> str:
        """Name the key and the expiry of what is signed now."""
        expires = self._expires()
        return f"{expires:x}-{self._mac('period', str(expires))[:8]}"

    def sign(self, user_id: str, sha256: str) -> str:
        """Make the query string that lets its bearer read this attachment of the user."""
        expires = str(self._expires())
        signature = self._mac("url", expires, sha256, user_id)
        return f"user={quote(user_id, safe='')}&expires={expires}&signature={signature}"

    def verify(self, user_id: str, sha256: str, expires: str, signature: str) -> bool:
        """Return whether the signature is valid for this user and attachment, and has not expired."""
        good = self._mac("url", expires, sha256, user_id)
        # Compared as bytes: compare_digest refuses text that is not ASCII.
        return (
            hmac.compare_digest(good.encode(), signature.encode("utf-8", "replace"))
            and int(expires) > time.time()
        )

    def _expires(self) -> int:
        return (int(time.time()) // self._lifetime + 2) * self._lifetime

    def _mac(self, *parts: str) -> str:
        # The user comes last and no other part holds the separator, so different parts make different texts.
        return hmac.digest(self._key, "\0".join(parts).encode("utf-8", "surrogatepass"), "sha256").hex()
