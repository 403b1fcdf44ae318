"""Only those who may ask are answered, and pages get little power."""

import pytest

from vitrail.errors import InputError
from vitrail.web.security import access, is_loopback


def test_without_the_token_nothing_is_told(stranger):
    for path in ("/", "/run", "/cases/0", "/cases/0/picture", "/export", "/report"):
        answer = stranger.get(path)
        assert answer.status_code == 401
        assert "token" in answer.text
    assert stranger.post("/pictures", content=b"x").status_code == 401


def test_a_wrong_token_is_refused(stranger):
    assert stranger.get("/", params={"token": "guess"}).status_code == 401


def test_the_printed_address_gives_a_cookie_that_scripts_and_other_sites_do_not_get(
    stranger, allowed
):
    answer = stranger.get("/", params={"token": allowed.token}, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert stranger.get("/run").status_code == 200


def test_another_host_name_is_refused_even_with_the_token(client):
    answer = client.get("/run", headers={"host": "evil.example"})
    assert answer.status_code == 421
    assert client.get("/run", headers={"host": "127.0.0.1:9999"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_page_cannot_send_pictures(client, headers):
    assert client.post("/pictures", content=b"x", headers=headers).status_code == 403


def test_the_own_page_can(client):
    headers = {"origin": "http://127.0.0.1:8642", "sec-fetch-site": "same-origin"}
    assert client.post("/pictures", content=b"x", headers=headers).status_code == 422


def test_every_answer_carries_the_headers(client, stranger):
    for answer in (client.get("/"), client.get("/run"), client.get("/cases/99")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"


def test_a_server_for_others_cannot_do_without_a_token():
    with pytest.raises(InputError, match="whoever reaches that address"):
        access("0.0.0.0", 80, with_token=False)
    assert access("127.0.0.1", 80, with_token=False).token is None


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.5", False), ("x", False)],
)
def test_loopback_is_told_from_the_rest(host, own):
    assert is_loopback(host) is own


def test_a_token_is_long_and_new_every_time():
    tokens = {access("127.0.0.1", 80).token for _ in range(20)}
    assert len(tokens) == 20
    assert min(map(len, tokens)) >= 32
