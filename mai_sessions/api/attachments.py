"""Attachments."""

from urllib.parse import quote

from flask import Response

from mai_sessions.auth.identity import current_user_id
from mai_sessions.content.attachments import image_type
from mai_sessions.repository import attachments
from mai_sessions.web.blueprint import api
from mai_sessions.web.conditions import environ_of_conditions
from mai_sessions.web.database import connection

# Bytes, for the documentation.
_BYTES = {"type": "string", "format": "binary"}
# A browser must treat the bytes as the type that is declared, and run nothing in them.
_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    # The frontend may be of another origin, and its pages show the image.
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Accept-Ranges": "bytes",
}


@api.get("/attachments/<sha256>", tags=["attachments"])
@api.response(200, _BYTES, content_type="*/*")
@api.alt_response(206, schema=_BYTES, content_type="*/*", description="The part that Range asks for")
def get_attachment(sha256: str) -> Response:
    """Read an image, or download a file"""
    with connection() as conn:
        attachment = attachments.get_attachment(conn, current_user_id(), sha256)
    response = Response(attachment.content, headers=_HEADERS, content_type=attachment.content_type)
    if image_type(attachment.content) is None:
        name = quote(attachment.file_name or "attachment", safe="")
        # In the form for any character (RFC 6266 §4.3, RFC 8187).
        response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{name}"
    response.set_etag(attachment.sha256)
    length = len(attachment.content)
    response.make_conditional(environ_of_conditions(length), accept_ranges=True, complete_length=length)
    return response
