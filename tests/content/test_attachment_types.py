import base64
from contextvars import copy_context

import pytest
from support.samples import AVIF, GIF, JPEG, WEBP, base64_of, data_url, png

from mai_sessions.content.attachments import (
    LINK,
    decode_base64,
    image_type,
    link_base,
    linked_sha256,
    read_data_url,
    read_image,
)

SHA256 = "0123456789abcdef" * 4
PNG = png()


@pytest.mark.parametrize(
    "text",
    [
        base64_of(PNG),
        data_url(PNG),
        data_url(PNG, "image/jpeg"),
        data_url(PNG, ""),
        data_url(PNG, "IMAGE/PNG;charset=utf-8;name=a.png"),
        data_url(PNG).replace("data:", "DATA:").replace(";base64,", "; base64 , "),
        f" \n{data_url(PNG)}\n",
        base64_of(PNG).rstrip("="),
        base64.urlsafe_b64encode(PNG).decode(),
        "\r\n".join(base64_of(PNG)[start : start + 20] for start in range(0, len(base64_of(PNG)), 20)),
        data_url(PNG)
        .replace("+", "%2B")
        .replace("/", "%2F")
        .replace("=", "%3D")
        .replace("image%2F", "image/"),
    ],
)
def test_image_is_read_in_every_encoding(text: str) -> None:
    image = read_image(text)
    assert image is not None
    assert (image.content, image.content_type) == (PNG, "image/png")


@pytest.mark.parametrize(
    "text", ["", "x", "data:image/png;base64,", "data:image/png,abc", base64_of(b"<svg/>"), "é=="]
)
def test_text_that_holds_no_image_is_none(text: str) -> None:
    assert read_image(text) is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (PNG, "image/png"),
        (GIF, "image/gif"),
        (JPEG, "image/jpeg"),
        (WEBP, "image/webp"),
        (AVIF, "image/avif"),
    ],
)
def test_bytes_decide_the_type_of_an_image(content: bytes, expected: str) -> None:
    attachment = read_data_url(data_url(content, "text/html"))
    assert attachment is not None
    assert (image_type(content), attachment.content_type) == (expected, expected)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("application/pdf", "application/pdf"),
        ("Image/SVG+xml", "image/svg+xml"),
        ("text/html;charset=utf-8", "text/html"),
        ("", "application/octet-stream"),
        ("text", "application/octet-stream"),
        ("text/x y", "application/octet-stream"),
        ("text/x\u00e9", "application/octet-stream"),
        (f"text/{'x' * 300}", "application/octet-stream"),
    ],
)
def test_file_keeps_its_declared_type_if_it_is_one(declared: str, expected: str) -> None:
    attachment = read_data_url(data_url(b"<p>", declared), "a.html")
    assert attachment is not None
    assert attachment[1:] == (expected, b"<p>", "a.html")


def test_broken_base64_is_none_and_another_text_is_refused() -> None:
    assert read_data_url("data:text/plain;base64,a*b") is None
    with pytest.raises(ValueError, match="not a base64"):
        read_data_url("data:text/plain,hello")


@pytest.mark.parametrize("text", ["YQ==", "YQ", " Y Q ", "YQ%3D%3d", "Y%0D%0aQ%20"])
def test_base64_is_decoded_with_and_without_padding(text: str) -> None:
    assert decode_base64(text) == b"a"


@pytest.mark.parametrize("escape", ["%2B", "%2f"])
def test_base64_is_decoded_with_its_letters_escaped(escape: str) -> None:
    assert decode_base64(escape * 4) == decode_base64("+" * 4 if escape == "%2B" else "/" * 4)


@pytest.mark.parametrize("text", ["Y", "Y=Q=", "YQ==YQ==", "Y*", "Yé", "Y%51", "YQ%", "YQ%é3D"])
def test_text_that_is_not_base64_is_none(text: str) -> None:
    assert decode_base64(text) is None


@pytest.mark.parametrize(
    ("text", "base", "expected"),
    [
        (LINK + SHA256, LINK, SHA256),
        (f"/chat/attachments/{SHA256}", "/chat/attachments/", SHA256),
        (f"{LINK}{SHA256}?user=u%20x&expires=17&signature=0a", LINK, SHA256),
        (LINK + SHA256, "/chat/attachments/", None),
        (f"{LINK}{SHA256}/", LINK, None),
        (f"{LINK}{SHA256}?x=1", LINK, None),
        (LINK + SHA256.upper(), LINK, None),
        (LINK + SHA256[1:], LINK, None),
        ("hello", LINK, None),
    ],
)
def test_link_names_its_attachment(text: str, base: str, expected: str | None) -> None:
    context = copy_context()
    context.run(link_base.set, base)
    assert context.run(linked_sha256, text) == expected
