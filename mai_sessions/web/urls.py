"""The URLs in responses. Each carries SCRIPT_NAME and the prefix that the API is registered below."""

import re
from functools import lru_cache
from urllib.parse import quote

from flask import request

from mai_sessions.auth.identity import current_user_id
from mai_sessions.content.attachments import LINK
from mai_sessions.web.state import current_state

_LINK = LINK.encode()
# A link as the statements write it: no text of a user holds U+0000, so none is taken for a link.
_NUL = re.compile(rb"\\u0000").search
_MARKED = re.compile(rb'"\\u0000(?:([0-9a-f]{64})")?')


def api_url() -> str:
    """Return the path that the paths of all routes of the API begin with."""
    return _join(request.environ.get("SCRIPT_NAME", ""), current_state().url_prefix)


@lru_cache(maxsize=64)
def _join(script_name: str, url_prefix: str) -> str:
    # WSGI carries the bytes of a path as Latin-1.
    return quote(script_name.encode("latin-1")) + quote(url_prefix)


def attachments_url() -> str:
    """Return the prefix of the URLs of attachments."""
    return f"{api_url()}/attachments/"


def with_attachment_urls(body: bytes) -> bytes:
    """Make the links in the `images` and `parts` of a JSON body into URLs that work for the caller."""
    # Most bodies hold no backslash, and one byte is found faster than a pattern.
    return _write_urls(body) if b"\\" in body and _NUL(body) else body


def _write_urls(body: bytes) -> bytes:
    signer, base = current_state().url_signer, attachments_url().encode()

    def url(link: re.Match[bytes]) -> bytes:
        if link[1] is None:
            return b'"' + _LINK
        query = f"?{signer.sign(current_user_id(), link[1].decode())}" if signer else ""
        return b'"%s%s%s"' % (base, link[1], query.encode())

    return _MARKED.sub(url, body)
