"""Refuses names that nothing reads: a misspelt setting that is ignored in silence looks like one that does not work."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from .invalid import quote, suggest, suggest_or_list
from .schema import BY_KEY, OPTIONS, SECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_KEY_NAMES = frozenset({"api_key", "apikey", "api-key"})
_KEY_CURE = (
    "export it as PICTOGRAPH_API_KEY, or put it in a file of its own and name that as api_key_file in [upstream]"
)
_PREFIX = "MIRROR_"
_OF_A_SERVICE = re.compile(
    r"MIRROR(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_TOP = tuple(option.name for option in OPTIONS if not option.section)
_VARIABLES = ("MIRROR_ROOT", "MIRROR_CONFIG", *(n for o in OPTIONS for n in o.env_names if n.startswith(_PREFIX)))


def refuse_unknown_variables(env: Mapping[str, str]) -> None:
    """Every MIRROR_* variable must be one that is read, or one that Kubernetes makes of a Service.

    Raises:
        ConfigurationError: it names the variable, and never its value.
    """
    for name in sorted(env):
        if not name.startswith(_PREFIX) or name in _VARIABLES or _is_of_a_service(name, env[name]):
            continue
        if name == "MIRROR_SYNC_RULES":
            cure = "rules are set in config.toml only, as [[sync.rules]] tables"
        elif name.endswith("API_KEY"):
            cure = "the key goes into PICTOGRAPH_API_KEY"
        else:
            cure = _suggest_variable(name)
        raise ConfigurationError(f"environment {name}: no such setting", hint=cure)


def _is_of_a_service(name: str, value: str) -> bool:
    """Whether Kubernetes has put it into the pod, for a Service named `mirror` or `mirror-…`.

    https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables. One that could be ours
    misspelt (`MIRROR_SERV_PORT`) tells by its value, which is an address: `tcp://10.0.0.11:8080`.
    """
    if _OF_A_SERVICE.fullmatch(name):
        return True
    return name.endswith("_PORT") and re.fullmatch("(tcp|udp|sctp)://.+", value) is not None


def _suggest_variable(name: str) -> str:
    """The nearest variable that is read."""
    import difflib

    # Without the prefix, which alone would make any two of them look alike.
    words = [variable.removeprefix(_PREFIX) for variable in _VARIABLES]
    near = difflib.get_close_matches(name.removeprefix(_PREFIX), words, n=1)
    return (
        f"did you mean '{_PREFIX}{near[0]}'?"
        if near
        else "unset it; docs/configuration.md lists the variables that are read"
    )


def refuse_unknown_options(overrides: Iterable[str]) -> None:
    """Every override must be an option; `root` has a parameter of its own.

    Raises:
        ConfigurationError: it names the key.
    """
    for key in overrides:
        if key == "root" or key not in BY_KEY:
            raise ConfigurationError(f"command line: unknown key {key!r}", hint=suggest_or_list(key, BY_KEY))


def refuse_unknown_keys(document: Mapping[str, Any], file: Path | None) -> None:
    """Every table and key of a file must be known.

    Raises:
        ConfigurationError: it names the file and the key.
    """
    for name, value in document.items():
        if name in SECTIONS:
            if not isinstance(value, dict):
                raise ConfigurationError(
                    f"{file}: {name} is {quote(value)}, not a table", hint=f"write [{name}] above its keys"
                )
            _refuse_unknown_in_section(value, name, file)
        elif name not in _TOP:
            _refuse_unknown_at_top(name, value, file)


def _refuse_unknown_at_top(name: str, value: object, file: Path | None) -> None:
    _refuse_key(name, name, file)
    if isinstance(value, (dict, list)):
        raise ConfigurationError(f"{file}: unknown section {quote(name)}", hint=suggest_or_list(name, SECTIONS))
    raise ConfigurationError(
        f"{file}: unknown key {quote(name)}", hint=_other_section(name) or suggest_or_list(name, (*_TOP, *SECTIONS))
    )


def _refuse_unknown_in_section(table: Mapping[str, Any], section: str, file: Path | None) -> None:
    known = [option.name for option in OPTIONS if option.section == section]
    for name in table:
        if name not in known:
            key = f"{section}.{name}"
            _refuse_key(name, key, file)
            cure = suggest(name, known) or _other_section(name) or suggest_or_list(name, known)
            raise ConfigurationError(f"{file}: unknown key {quote(key)}", hint=cure)


def _refuse_key(name: str, key: str, file: Path | None) -> None:
    if name.lower() in _KEY_NAMES:
        raise ConfigurationError(
            f"{file}: {key} is never set in this file, which gets copied and shown", hint=_KEY_CURE
        )


def _other_section(name: str) -> str | None:
    """Where a key of this name belongs, for one that stands in the wrong table."""
    option = next((option for option in OPTIONS if option.name == name and option.section), None)
    return f"{name} belongs in [{option.section}]" if option else None
