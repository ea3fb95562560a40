"""The URLs in responses. Each carries SCRIPT_NAME and the prefix that the API is registered below."""

import re
from functools import lru_cache
from urllib.parse import quote

from flask import request

from mai_sessions.auth.identity import current_user_id
from mai_sessions.web.state import current_state

# The path of an attachment as the statements write it.
_STORED = b"/api/v1/attachments/"
# A quotation mark inside a JSON string is escaped, so this matches a key and never a text.
_IMAGES = re.compile(rb'"images"\s*:\s*\[[^\]]+\]')
_IMAGE = re.compile(rb'"' + _STORED + rb'([0-9a-f]{64})"')


def api_url() -> str:
    """Return the path that the paths of all routes of the API begin with."""
    return _join(request.environ.get("SCRIPT_NAME", ""), current_state().url_prefix)


@lru_cache(maxsize=64)
def _join(script_name: str, url_prefix: str) -> str:
    # WSGI carries the bytes of a path as Latin-1.
    return quote(script_name.encode("latin-1")) + quote(url_prefix)


def with_attachment_urls(body: bytes) -> bytes:
    """Make the attachment paths in the `images` of a JSON body into URLs that work for the caller."""
    signer, base = current_state().url_signer, f"{api_url()}/attachments/".encode()
    if (signer is None and base == _STORED) or _STORED not in body:
        return body

    def url(image: re.Match[bytes]) -> bytes:
        query = f"?{signer.sign(current_user_id(), image[1].decode())}" if signer else ""
        return b'"%s%s%s"' % (base, image[1], query.encode())

    return _IMAGES.sub(lambda images: _IMAGE.sub(url, images[0]), body)
