"""Images as clients send them: base64, bare or in a data URL, of the types that a browser shows and cannot be
made to run.
"""

import binascii
import re
from hashlib import sha256
from typing import NamedTuple

_DATA_URL = re.compile(r"data:([^;,]*);base64,")

# The first bytes of each type, from its specification: PNG §5.2, JPEG's SOI marker, GIF89a §17, RIFF (RFC
# 9649 §2.3), ISO BMFF's `ftyp` box with the brands of AVIF §6.
_MAGIC = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "image/avif": re.compile(rb"....ftyp(?:....)*?avi[fs]", re.DOTALL),
}
_ALIASES = {"image/jpg": "image/jpeg"}


class Image(NamedTuple):
    """An image: the SHA-256 of its bytes in hexadecimal, its media type, and its bytes."""

    sha256: str
    content_type: str
    content: bytes


def read_image(text: str) -> Image | None:
    """Decode an image, or None: it is not base64, or not PNG, JPEG, GIF, WebP or AVIF, or not what the data
    URL says.
    """
    data_url = _DATA_URL.match(text)
    try:
        content = binascii.a2b_base64(text[data_url.end() :] if data_url else text, strict_mode=True)
    except (binascii.Error, ValueError):
        return None
    head = content[:256]
    content_type = next((name for name, magic in _MAGIC.items() if magic.match(head)), None)
    if content_type is None or (data_url and _ALIASES.get(data_url[1], data_url[1]) != content_type):
        return None
    return Image(sha256(content).hexdigest(), content_type, content)
