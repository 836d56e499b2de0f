"""Verdicts on the URLs that an operator gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_mirror.errors import ConfigurationError
from registry_mirror.urls import check_base_url, check_proxy, hide_password, hide_secrets, is_loopback


@pytest.mark.parametrize(
    ("given_url", "used"),
    [
        ("https://api.pictograph.io", "https://api.pictograph.io"),
        ("https://api.pictograph.io/", "https://api.pictograph.io"),
        ("https://api.pictograph.io///", "https://api.pictograph.io"),
        ("  https://api.pictograph.io\n", "https://api.pictograph.io"),
        ("HTTPS://API.Pictograph.IO", "https://api.pictograph.io"),
        ("https://api.pictograph.io:443", "https://api.pictograph.io"),
        ("https://api.pictograph.io:", "https://api.pictograph.io"),
        ("https://registry.example:8443/Models/v2/", "https://registry.example:8443/Models/v2"),
        ("https://my_service", "https://my_service"),
        ("https://bücher.example", "https://bücher.example"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://LOCALHOST:80/", "http://localhost"),
        ("http://127.0.0.1:8080/prefix", "http://127.0.0.1:8080/prefix"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_good_base_url_gets_its_one_spelling(given_url: str, used: str) -> None:
    assert check_base_url(given_url) == used
    assert check_base_url(used) == used


HTTP_ELSEWHERE = [
    "http://registry.example",
    "http://10.0.0.5:8080",
    "http://0.0.0.0",
    "http://localhost.example",
    "http://127.0.0.1.example",
    "http://127.1",
    "http://[::ffff:127.0.0.1]",
    "http://[::2]",
]


@pytest.mark.parametrize("url", HTTP_ELSEWHERE)
def test_http_beyond_this_machine_is_refused_with_both_cures(url: str) -> None:
    with pytest.raises(ConfigurationError, match="over plain http") as caught:
        check_base_url(url)
    assert url in caught.value.message
    assert caught.value.hint == "use https, or set allow_http = true if the network in between is trusted"


@pytest.mark.parametrize("url", HTTP_ELSEWHERE)
def test_http_beyond_this_machine_is_taken_where_it_is_allowed(url: str) -> None:
    assert check_base_url(url, allow_http=True) == url


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("api.pictograph.io", "not an http or https URL"),
        ("ftp://api.pictograph.io", "not an http or https URL"),
        ("file:///etc/passwd", "not an http or https URL"),
        ("//api.pictograph.io", "not an http or https URL"),
        ("https:api.pictograph.io", "names no host"),
        ("https://", "names no host"),
        ("https:///path", "names no host"),
        ("https://:8443", "names no host"),
        ("https://host:port", "bad host or port"),
        ("https://host:99999", "bad host or port"),
        ("https://[::1", "bad host or port"),
        ("https://a%2fb", "bad host or port"),
        ("https://a,b", "bad host or port"),
        ("https://exa mple.com", "white space"),
        ("https://example.com/a\tb", "white space"),
        ("https://example.com\nHost: other", "white space"),
        ("https://example.com\\@other", "backslash"),
        ("https://example.com?", "a query or a fragment"),
        ("https://example.com#", "a query or a fragment"),
        ("https://example.com/?a=b", "a query or a fragment"),
        ("https://user@example.com", "a user or a password"),
        ("https://@example.com", "a user or a password"),
    ],
)
def test_any_other_base_url_is_refused_with_the_reason_and_a_cure(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_base_url(url, allow_http=True)
    assert problem in caught.value.message
    assert caught.value.hint
    assert "\n" not in str(caught.value)


WITH_PASSWORDS = [
    "https://user:hidden@example.com",
    "https://user:hid#hidden@example.com",
    "https://user:1#hidden@example.com",
    "https://user:1/hidden@example.com",
    "https://user:1?hidden@example.com",
    "https://user:hid@hidden@example.com",
    "https://user:hidden@exam ple.com",
    "https://user:hidden@example.com:port",
    "user:hidden@example.com",
    "ftp://user:hidden@example.com",
    "https:user:hidden@example.com",
    "https://user:hid\nhidden@example.com",
    "https://user:hidden@",
]


@pytest.mark.parametrize("url", [*WITH_PASSWORDS, "https://example.com/?token=hidden", "https://example.com/#hidden"])
def test_no_message_echoes_a_password_or_a_token(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_base_url(url)
    assert "hidden" not in str(caught.value)
    assert "****" in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "url", ["http://proxy.example:3128", "https://proxy.example", "http://user:pass%2Fword@proxy.example:3128"]
)
def test_a_proxy_may_be_http_and_carry_a_password(url: str) -> None:
    assert check_proxy(f" {url}/ ") == url


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is empty"),
        ("proxy.example:3128", "not an http or https URL"),
        ("socks5://proxy.example", "not an http or https URL"),
        ("http://", "names no host"),
        ("http://proxy.example:3128/path", "something after its host and port"),
        ("http://user:1#word@proxy.example", "something after its host and port"),
        ("http://user:1/word@proxy.example", "something after its host and port"),
        ("http://user:a/word@proxy.example", "bad host or port"),
    ],
)
def test_any_other_proxy_is_refused_with_the_reason_and_a_cure(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_proxy(url)
    assert caught.value.message.startswith("the proxy ")
    assert problem in caught.value.message
    assert "word" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost", True),
        ("LocalHost", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("", False),
        ("localhost.example", False),
        ("126.0.0.1", False),
        ("128.0.0.1", False),
        ("::", False),
        ("::1%eth0", False),
        ("::ffff:127.0.0.1", False),
    ],
)
def test_loopback_is_told_without_a_resolver(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("http://user:word@proxy.example:3128", "http://****@proxy.example:3128"),
        ("http://us@er:wo@rd@proxy.example", "http://****@proxy.example"),
        ("user:word@proxy.example", "****@proxy.example"),
    ],
)
def test_a_password_is_masked_and_the_rest_is_kept(url: str, shown: str) -> None:
    assert hide_password(url) == shown


@given(st.text(), st.text(), st.sampled_from(["", "/models", "/?token=", "#", "/@"]))
def test_no_part_of_a_password_or_a_token_is_shown(before: str, after: str, middle: str) -> None:
    secret = f"{before}hidden{after}"
    assert "hidden" not in hide_secrets(f"https://user:{secret}@example.com{middle}")
    assert "hidden" not in hide_secrets(f"https://user:{secret}@example.com/?token={secret}")
    assert "hidden" not in hide_secrets(f"https://example.com/?token={secret}")
    assert "hidden" not in hide_secrets(f"user:{secret}@example.com")
