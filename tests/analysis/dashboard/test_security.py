from __future__ import annotations

import pytest

from analysis.dashboard.security import COOKIE, host_name, is_loopback, new_token
from tests.analysis.dashboard.conftest import client_of

TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def guarded(quickstart):
    return client_of(quickstart, token=TOKEN)


def test_every_answer_carries_the_policy(client):
    for path in ("/", "/nowhere", "/static/style.css", "/runs?sort=nope", "/runs.csv"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert client.get(path).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8050", "localhost.evil.example", ""]
)
def test_a_name_that_is_not_this_machine_is_refused(client, host):
    assert client.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:8050", "[::1]:8050", "127.0.0.53"])
def test_names_of_this_machine_are_served(client, host):
    assert client.get("/static/style.css", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_written(client, method):
    for path in ("/", "/runs", "/live", "/static/style.css"):
        assert client.request(method, path).status_code == 405


def test_without_the_token_only_the_form_is_shown(guarded):
    for path in ("/", "/runs.csv", "/findings/seeds", "/live", f"/?token={TOKEN}"):
        answer = guarded.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert guarded.get("/static/style.css").status_code == 200


def test_the_token_opens_by_a_form_and_a_cookie_that_scripts_cannot_read(guarded):
    wrong = guarded.post("/login", data={"token": "nope"})
    assert wrong.status_code == 403
    assert COOKIE not in wrong.cookies
    right = guarded.post("/login", data={"token": TOKEN})
    assert right.status_code == 303
    cookie = right.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert TOKEN not in cookie
    assert guarded.get("/").status_code == 200
    guarded.cookies.clear()


def test_a_forged_cookie_or_a_huge_form_opens_nothing(guarded):
    guarded.cookies.set(COOKIE, TOKEN)
    assert guarded.get("/").status_code == 303
    guarded.cookies.clear()
    assert guarded.post("/login", data={"token": TOKEN + " " * 10_000}).status_code == 403


def test_no_path_of_a_request_reaches_the_files(client):
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd"):
        assert client.get(path).status_code in (400, 404)


def test_hosts_are_told_apart():
    assert host_name("[::1]:80") == "::1"
    assert host_name("LocalHost:80") == "localhost"
    assert is_loopback("127.0.0.53")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("127.evil.example")
    assert len({new_token() for _ in range(100)}) == 100
