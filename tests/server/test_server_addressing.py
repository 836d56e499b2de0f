"""From a raw path to what is asked for: split first, decoded after."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_mirror.server.requests import LONGEST_SEGMENT, Address, BadPathError, ModelAction, address, without_prefix

SUFFIXES = {
    "": ModelAction.GET,
    "/download": ModelAction.DOWNLOAD,
    "/versions": ModelAction.VERSIONS,
    "/files": ModelAction.FILES,
    "/files/download": ModelAction.FILE_DOWNLOAD,
    "/predict": ModelAction.OTHER,
    "/files/": ModelAction.OTHER,
    "/": ModelAction.OTHER,
    "/download/": ModelAction.OTHER,
    "/files/upload": ModelAction.OTHER,
}


@pytest.mark.parametrize(("suffix", "action"), SUFFIXES.items())
def test_an_action_stands_after_the_model(suffix, action):
    assert address(b"/forklifts" + suffix.encode()) == Address(action, "forklifts")
    assert address(b"/by-name/forklifts" + suffix.encode()) == Address(action, "forklifts", by_name=True)


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (b"/", Address(ModelAction.LIST)),
        (b"", Address(ModelAction.NOWHERE)),
        (b"x", Address(ModelAction.NOWHERE)),
        (b"/by-name", Address(ModelAction.GET, "by-name")),
        (b"/bulk-delete", Address(ModelAction.GET, "bulk-delete")),
        (b"/by-name/by-name", Address(ModelAction.GET, "by-name", by_name=True)),
        (b"/by-name/a/download", Address(ModelAction.DOWNLOAD, "a", by_name=True)),
        (b"/download", Address(ModelAction.GET, "download")),
        (b"/by-name/download", Address(ModelAction.GET, "download", by_name=True)),
        (b"/..", Address(ModelAction.GET, "..")),
        (b"/%2e%2e", Address(ModelAction.GET, "..")),
        (b"/.", Address(ModelAction.GET, ".")),
        (b"/a%2Fb", Address(ModelAction.GET, "a/b")),
        (b"/a%2Fdownload", Address(ModelAction.GET, "a/download")),
        (b"/a%252Fb", Address(ModelAction.GET, "a%2Fb")),
        (b"/by-name%2Fa", Address(ModelAction.GET, "by-name/a")),
        (b"/a+b", Address(ModelAction.GET, "a+b")),
        (b"/a%0Ab", Address(ModelAction.GET, "a\nb")),
        (b"//", Address(ModelAction.OTHER)),
        (b"//download", Address(ModelAction.DOWNLOAD)),
    ],
)
def test_odd_paths(rest, expected):
    assert address(rest) == expected


@pytest.mark.parametrize(
    "rest", [b"/%", b"/%4", b"/%zz", b"/a%0", b"/%00", b"/a%00b", b"/%ff", b"/%C3", b"/\xff", b"/%ED%A0%80", b"/a/%zz"]
)
def test_what_cannot_be_decoded_is_refused(rest):
    with pytest.raises(BadPathError):
        address(rest)


def test_a_part_of_a_path_has_a_longest_length():
    longest = "\N{SAUROPOD}" * 256
    assert address(b"/" + quote(longest, safe="").encode()).model == longest
    with pytest.raises(BadPathError, match="longer"):
        address(b"/" + b"a" * (LONGEST_SEGMENT + 1))
    with pytest.raises(BadPathError, match="longer"):
        address(b"/" + b"%61" * 100_000)


names = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=80)


@given(names, st.sampled_from(["", "/download", "/versions", "/files", "/files/download"]), st.booleans())
def test_any_name_comes_back_as_it_was_sent(name, suffix, by_name):
    start = "/by-name/" if by_name else "/"
    assert address((start + quote(name, safe="") + suffix).encode()) == Address(SUFFIXES[suffix], name, by_name)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_address_or_no_path(rest):
    try:
        found = address(b"/" + rest)
    except BadPathError:
        return
    assert "\0" not in found.model


@pytest.mark.parametrize(
    ("path", "prefix", "expected"),
    [
        (b"/api/x", None, (b"/api/x", False)),
        (b"/models/api/x", "/models", (b"/api/x", True)),
        (b"/models", "/models", (b"/", True)),
        (b"/models/", "/models", (b"/", True)),
        (b"/modelsapi", "/models", (b"/modelsapi", False)),
        (b"/api/x", "/models", (b"/api/x", False)),
        (b"/models/models/x", "/models", (b"/models/x", True)),
    ],
)
def test_a_prefix_may_be_there_or_not(path, prefix, expected):
    assert without_prefix(path, prefix) == expected
