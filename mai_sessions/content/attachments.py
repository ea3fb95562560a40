"""Images and files as clients send them in JSON: base64, bare or in a data URL, or a link to one that is
stored.
"""

import binascii
import re
from contextvars import ContextVar
from hashlib import sha256
from typing import NamedTuple

# The start of a stored link, wherever the API is mounted.
LINK = "/api/v1/attachments/"
# The start of a link in responses to the present caller.
link_base: ContextVar[str] = ContextVar("link_base", default=LINK)

# The declared type ends at the last `;base64,` before the data (RFC 2397), whatever parameters come before
# it.
_DATA_URL = re.compile(r"\s*data:([^,]*?);\s*base64\s*,", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}").fullmatch
_OCTETS = "application/octet-stream"
_SIGNATURE = re.compile(r"\?user=[^&]*&expires=\d+&signature=[0-9a-f]+").fullmatch
_SHA256 = re.compile(r"[0-9a-f]{64}").match

# The first bytes of each type, from its specification: PNG §5.2, JPEG's SOI marker, GIF89a §17, RIFF
# (RFC 9649 §2.3), ISO BMFF's `ftyp` box with the brands of AVIF §6.
_MAGIC = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "image/avif": re.compile(rb"....ftyp(?:....)*?avi[fs]", re.DOTALL),
}
# Replaces URL-safe letters by the standard ones, and removes white space.
_LETTERS = str.maketrans("-_", "+/", " \t\r\n\f\v")
# What base64 contains and URLs escape (RFC 3986 §2.2). To unquote every escape would take hundreds of bytes
# of memory for each.
_ESCAPES = {"2B": "+", "2F": "/", "3D": "=", "0A": "", "0D": "", "20": ""}
_OTHER_ESCAPE = re.compile(f"%(?!{'|'.join(_ESCAPES)})", re.IGNORECASE).search


# The longest name of a download, in characters.
MAX_FILE_NAME = 255


class Attachment(NamedTuple):
    """An image or file.

    `sha256` is of the content, in hexadecimal; `content_type` that of the image if `image_type` finds one,
    else the declared type; `file_name` what a download is called, if the client said.
    """

    sha256: str
    content_type: str
    content: bytes
    file_name: str | None = None


def read_image(text: str) -> Attachment | None:
    """Decode an image from base64, bare or in a data URL.

    The bytes decide what it is, and not what the URL declares. None if the text is not base64, or its bytes
    are not a PNG, JPEG, GIF, WebP or AVIF.
    """
    content = decode_base64(text[data_url.end() :] if (data_url := _DATA_URL.match(text)) else text)
    content_type = None if content is None else image_type(content)
    if content is None or content_type is None:
        return None
    return Attachment(sha256(content).hexdigest(), content_type, content)


def read_data_url(text: str, file_name: str | None = None) -> Attachment | None:
    """Decode a base64 data URL of any media type. None if its data are not base64.

    Raises ValueError for a text that is not a base64 data URL.
    """
    data_url = _DATA_URL.match(text)
    if data_url is None:
        raise ValueError("not a base64 data URL")
    content = decode_base64(text[data_url.end() :])
    if content is None:
        return None
    declared = data_url[1].partition(";")[0].strip().lower()
    content_type = image_type(content) or (declared if _MEDIA_TYPE(declared) else _OCTETS)
    return Attachment(sha256(content).hexdigest(), content_type, content, file_name)


def is_data_url(text: str) -> bool:
    """Return whether a text begins as a base64 data URL does."""
    return _DATA_URL.match(text) is not None


def linked_sha256(text: str) -> str | None:
    """The SHA-256 in a link to an attachment, as the API gives it to this caller; None for any other text."""
    base = link_base.get()
    if not text.startswith(base) or not _SHA256(text, len(base)):
        return None
    end = len(base) + 64
    return text[len(base) : end] if len(text) == end or _SIGNATURE(text, end) else None


def decode_base64(text: str) -> bytes | None:
    """Decode base64 of either alphabet (RFC 4648 §4, §5), with or without padding, white space and the
    escapes of URLs.

    None if the text is anything else.
    """
    if not text.isascii():
        return None
    if "%" in text:
        if _OTHER_ESCAPE(text):
            return None
        for code, letter in _ESCAPES.items():
            text = text.replace(f"%{code}", letter).replace(f"%{code.lower()}", letter)
    letters = text.translate(_LETTERS).rstrip("=")
    try:
        return binascii.a2b_base64(letters + "=" * (-len(letters) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        return None


def image_type(content: bytes) -> str | None:
    """The media type of a PNG, JPEG, GIF, WebP or AVIF by its first bytes, or None for anything else."""
    head = content[:256]
    return next((name for name, magic in _MAGIC.items() if magic.match(head)), None)
