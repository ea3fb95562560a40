"""URLs of attachments for an `<img>`, which cannot send a bearer token: signed for one user and image, and
they expire.
"""

import hmac
import re
import time
from urllib.parse import quote

ATTACHMENTS = b"/api/v1/attachments/"
# Within a string of JSON every quotation mark is escaped, so this matches the key of a message and never what
# a user wrote.
_IMAGES = re.compile(rb'"images"\s*:\s*\[[^\]]+\]')
_URL = re.compile(rb'"' + ATTACHMENTS + rb'([0-9a-f]{64})"')


class UrlSigner:
    """Signs and checks. Whoever has the same key, another worker or another host, makes and accepts the same
    signatures.

    A URL lives at least `lifetime` seconds and at most twice that: all URLs of a period of that length expire
    together, so that a reply stays the same for that long, and so does its ETag when it holds `period`."""

    def __init__(self, key: bytes, lifetime: int) -> None:
        self._key = key
        self._lifetime = lifetime

    def period(self) -> str:
        """Name the key and the expiry of what is signed now."""
        expires = self._expires()
        return f"{expires:x}-{self._mac('period', str(expires))[:8]}"

    def sign(self, user_id: str, sha256: str) -> str:
        """Make the query that lets whoever has it read this attachment of the user."""
        expires = str(self._expires())
        return f"user={quote(user_id, safe='')}&expires={expires}&signature={self._mac('url', expires, sha256, user_id)}"

    def sign_images(self, body: bytes, user_id: str) -> bytes:
        """Sign every URL in the `images` of messages in a JSON reply."""
        return _IMAGES.sub(lambda images: _URL.sub(lambda url: self._signed(url, user_id), images[0]), body)

    def verify(self, user_id: str, sha256: str, expires: str, signature: str) -> bool:
        """Tell whether the signature is ours, for this user and attachment, and has not expired."""
        good = self._mac("url", expires, sha256, user_id)
        # Compared as bytes: compare_digest refuses text that is not ASCII.
        return (
            hmac.compare_digest(good.encode(), signature.encode("utf-8", "replace"))
            and int(expires) > time.time()
        )

    def _signed(self, url: re.Match[bytes], user_id: str) -> bytes:
        return b'"%s%s?%s"' % (ATTACHMENTS, url[1], self.sign(user_id, url[1].decode()).encode())

    def _expires(self) -> int:
        return (int(time.time()) // self._lifetime + 2) * self._lifetime

    def _mac(self, *parts: str) -> str:
        # The user comes last and nothing else holds the separator, so no two lists of parts make one text.
        return hmac.digest(self._key, "\0".join(parts).encode("utf-8", "surrogatepass"), "sha256").hex()
