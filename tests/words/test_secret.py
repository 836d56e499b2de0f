"""A secret is seen by nobody who does not ask for it by name."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from dataclasses import asdict, dataclass

import pytest

from registry_mirror.secret import Secret

TEXT = "pk_live_hidden"


@dataclass
class Holder:
    key: Secret


def test_reveal_gives_the_text() -> None:
    assert Secret(TEXT).reveal() == TEXT


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        "{!r}".format,
        "{:>40}".format,
        lambda secret: f"{secret}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - the way that logging does it
        lambda secret: repr([secret]),
        lambda secret: repr({"key": secret}),
        lambda secret: repr(Holder(secret)),
    ],
)
def test_no_way_of_showing_it_shows_it(show: object) -> None:
    shown = show(Secret(TEXT))  # type: ignore[operator]
    assert "****" in shown
    assert TEXT not in shown


def test_a_log_record_masks_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("key %s, holder %r", Secret(TEXT), Holder(Secret(TEXT)))
    assert "****" in caplog.text
    assert TEXT not in caplog.text


def test_a_traceback_with_its_locals_masks_it() -> None:
    key = Secret(TEXT)
    try:
        json.dumps(key)
    except TypeError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "key = '****'" in shown
    assert TEXT not in shown


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret(TEXT), protocol)


@pytest.mark.parametrize(
    "act", [copy.copy, copy.deepcopy, lambda secret: asdict(Holder(secret)), json.dumps, vars, hash]
)
def test_no_other_way_takes_its_contents(act: object) -> None:
    with pytest.raises(TypeError):
        act(Secret(TEXT))  # type: ignore[operator]


def test_equal_texts_are_equal_secrets_and_a_text_is_not_a_secret() -> None:
    assert Secret(TEXT) == Secret(TEXT)
    assert Secret(TEXT) != Secret(TEXT + "x")
    assert Secret("ключ\udcff") == Secret("ключ\udcff")
    assert Secret(TEXT) != TEXT


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: compared.append((a, b)) or True)
    assert Secret("a") == Secret("b")
    assert compared == [(b"a", b"b")]


@pytest.mark.parametrize("value", ["", None, b"key", 5])
def test_it_holds_a_text_that_is_not_empty(value: object) -> None:
    with pytest.raises(ValueError, match="not empty") as caught:
        Secret(value)  # type: ignore[arg-type]
    assert "key" not in str(caught.value)
