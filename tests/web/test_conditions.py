"""Conditional requests: entity tags as proxies and clients change them, and Range."""

import pytest
from flask.testing import FlaskClient
from support.samples import base64_of, png

CHANGED_BY_PROXIES = [
    "{}",
    "W/{}",
    '"{}-gzip"',
    'W/"{}-gzip"',
    '"{}-br"',
    '"{}--gzip"',
    '"{}-zstd"',
    '"{};gzip"',
]


@pytest.fixture
def session(client: FlaskClient) -> str:
    return client.post("/api/v1/sessions").headers["Location"]


@pytest.fixture
def image(client: FlaskClient, session: str) -> str:
    body = {"role": "user", "content": "", "images": [base64_of(png())]}
    url: str = client.post(f"{session}/messages", json=body).get_json()["images"][0]
    return url


def changed(form: str, tag: str) -> str:
    return form.format(tag if form in ("{}", "W/{}") else tag.strip('"'))


@pytest.mark.parametrize("form", CHANGED_BY_PROXIES)
def test_tag_that_a_proxy_changed_still_matches(
    client: FlaskClient, session: str, image: str, form: str
) -> None:
    for url in (session, f"{session}/messages", "/api/v1/sessions", image):
        tag = changed(form, client.get(url).headers["ETag"])
        assert client.get(url, headers={"If-None-Match": tag}).status_code == 304
        assert client.get(url, headers={"If-None-Match": f'"other", {tag}'}).status_code == 304
    tag = changed(form, client.get(session).headers["ETag"])
    stale = changed(form, '"00000000-0000-7000-8000-000000000000"')
    assert client.patch(session, json={"title": "x"}, headers={"If-Match": stale}).status_code == 412
    assert client.patch(session, json={"title": "x"}, headers={"If-Match": tag}).status_code == 200


def test_any_tag_matches_what_is_there(client: FlaskClient, session: str, image: str) -> None:
    for url in (session, f"{session}/messages", "/api/v1/sessions", image):
        for tags in ("*", '"other", *'):
            assert client.get(url, headers={"If-None-Match": tags}).status_code == 304


@pytest.mark.parametrize("tags", ["*", '"other"', ""])
def test_read_ignores_if_match(client: FlaskClient, session: str, image: str, tags: str) -> None:
    for url in (session, f"{session}/messages", "/api/v1/sessions", image):
        response = client.get(url, headers={"If-Match": tags})
        assert (response.status_code, response.data) == (200, client.get(url).data)


@pytest.mark.parametrize("header", ["pages=1-2", "items=0-", "bytes=0-1,3-4", "BYTES = 0-1, 2-3", "none", ""])
def test_range_of_another_unit_or_several_is_ignored(client: FlaskClient, image: str, header: str) -> None:
    response = client.get(image, headers={"Range": header})
    assert (response.status_code, response.data) == (200, png())
    assert response.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-3", png()[:4]),
        ("Bytes=4-", png()[4:]),
        ("bytes=-2", png()[-2:]),
        ("bytes=0-999999", png()),
        ("Bytes = -999999", png()),
        (f"bytes=-{'9' * 5000}", png()),
    ],
    ids=["first", "all but the first", "last", "beyond the end", "long suffix", "suffix of many digits"],
)
def test_range_of_bytes_is_served(client: FlaskClient, image: str, header: str, expected: bytes) -> None:
    response = client.get(image, headers={"Range": header})
    assert (response.status_code, response.data) == (206, expected)


@pytest.mark.parametrize("header", ["bytes=999999-", "bytes=-0"])
def test_range_outside_the_content_is_refused(client: FlaskClient, image: str, header: str) -> None:
    response = client.get(image, headers={"Range": header})
    assert response.status_code == 416
    assert response.headers["Content-Range"] == f"bytes */{len(png())}"


DATES = [
    "Thu, 26 Nov 2026 10:00:00 GMT",
    "Thu, 99999999999999999999 Nov 2026 10:00:00 GMT",
    '"Thu, 99999999999999999999 Nov 2026 10:00:00 GMT"',
    "Thu, 26 Nov 2026 10:00:00 +99999999999999999999",
    "x",
]


@pytest.mark.parametrize("date", DATES)
def test_condition_on_a_date_is_not_met(client: FlaskClient, image: str, date: str) -> None:
    part = client.get(image, headers={"Range": "bytes=0-3", "If-Range": date})
    assert (part.status_code, part.data) == (200, png())
    for name in ("If-Modified-Since", "If-Unmodified-Since", "If-Range"):
        assert client.get(image, headers={name: date}).data == png()


def test_range_with_its_own_tag_is_served(client: FlaskClient, image: str) -> None:
    tag = client.get(image).headers["ETag"]
    assert client.get(image, headers={"Range": "bytes=0-3", "If-Range": tag}).data == png()[:4]
