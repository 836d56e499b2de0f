"""Loads the settings, and remembers where each value came from. Standard library only.

Flags take precedence over the environment, then come the file and the defaults. The environment is read when
`load_settings` is called, never at import.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConfigurationError
from ..urls import check_base_url, check_proxy
from .mistakes import BadValueError, quote, suggest, suggest_or_list
from .root import NamedPath, absolute, default_root, named_file, named_root, read_if_there, read_named, root_of_document
from .settings import BY_KEY, OPTIONS, SECTIONS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from .kinds import Option

_NOTHING: Mapping[str, object] = MappingProxyType({})
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


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of `load_settings`.

    Attributes:
        settings: all values, checked.
        origins: for each key: "flag", "environment NAME", the file's path, or "default".
        file: the file that was read; None when there was none.
    """

    settings: Settings
    origins: Mapping[str, str]
    file: Path | None


class _Located(NamedTuple):
    """The root, and the configuration file with its contents. Either of them may have led to the other."""

    root: NamedPath
    file: Path | None
    document: Mapping[str, Any]


class _Given(NamedTuple):
    """A value before it is checked. A relative path is relative to `folder`, or to the present folder for None."""

    value: object
    origin: str
    folder: Path | None


def load_settings(
    *,
    root: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] = _NOTHING,
) -> Loaded:
    """Reads and checks every setting.

    Args:
        root: the `--root` flag.
        config: the `--config` flag.
        env: the environment; None for `os.environ`.
        overrides: flags by key, such as {"daemon.every": "1h"}: text, a TOML value, or None for a flag not given.

    Raises:
        ConfigurationError: a setting is wrong. The message names the key, where it was set, and the cure.
    """
    env = os.environ if env is None else env
    refuse_unknown_variables(env)
    _refuse_unknown_flags(overrides)
    located = _locate(root, config, env)
    refuse_unknown_keys(located.document, located.file)
    values: dict[str, Any] = {}
    origins = {"root": located.root.origin}
    for option in OPTIONS:
        if option.key != "root":
            given = next(_layers(option, overrides, env, located))
            values[option.key], origins[option.key] = _checked(option, given), given.origin
    _check_urls(values, origins)
    sections: dict[str, Any] = {
        name: made(**{option.name: values[option.key] for option in OPTIONS if option.section == name})
        for name, made in SECTIONS.items()
    }
    return Loaded(Settings(root=located.root.path, **sections), MappingProxyType(origins), located.file)


def _locate(
    root: str | os.PathLike[str] | None, config: str | os.PathLike[str] | None, env: Mapping[str, str]
) -> _Located:
    found, file = named_root(root, env), named_file(config, env)
    if file is not None:
        document = read_named(file)
        named = root_of_document(document, file.path)
        return _Located(found or named or NamedPath(default_root(env), "default"), file.path, document)
    found = found or NamedPath(default_root(env), "default")
    own = found.path / "config.toml"
    tables = read_if_there(own)
    if tables is None:
        return _Located(found, None, _NOTHING)
    named = root_of_document(tables, own)
    if named and named.path != found.path:
        raise ConfigurationError(
            f"{own}: root is {str(named.path)!r}, but this file was found through the root {str(found.path)!r}",
            hint=f"remove root from it, or use --root {named.path}",
        )
    return _Located(found, own, tables)


def _layers(
    option: Option, overrides: Mapping[str, object], env: Mapping[str, str], located: _Located
) -> Iterator[_Given]:
    """Yields the values given for an option, by descending precedence; the last one is the default."""
    if (flag := overrides.get(option.key)) is not None:
        yield _Given(_split(option, flag, "flag"), "flag", None)
    for name in option.env_names:
        text = env.get(name)
        # `also_env` has variables of other programs as well: an empty one is not a mistake.
        if text is not None and (text.strip() or name not in option.also_env):
            origin = f"environment {name}"
            yield _Given(_split(option, text, origin), origin, None)
    table = located.document.get(option.section, {})
    if located.file and option.name in table:
        yield _Given(table[option.name], str(located.file), located.file.parent)
    yield _Given(option.default, "default", None)


def _split(option: Option, value: object, origin: str) -> object:
    """Converts text to the value that TOML would have given. Returns other values as they are."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise _error(option.key, origin, "is empty", "give it a value, or leave it out")
    return option.kind.split(value)


def _checked(option: Option, given: _Given) -> Any:
    """Checks a value and returns the setting. Makes a path absolute."""
    if given.value is None:
        return option.kind.absent
    try:
        value = option.kind.parse(given.value)
        return absolute(value, given.folder) if isinstance(value, Path) else value
    except BadValueError as error:
        raise _error(option.key, given.origin, error.problem, error.cure) from None
    except FileNotFoundError:
        problem = "is a relative path, and the present folder was removed"
        raise _error(option.key, given.origin, problem, "give it as an absolute path") from None


def _check_urls(values: dict[str, Any], origins: Mapping[str, str]) -> None:
    """Checks the URLs. Comes last, because `allow_http` decides whether a base URL can be used."""
    url, allow_http, proxy = values["upstream.base_url"], values["upstream.allow_http"], values["upstream.proxy"]
    checks: dict[str, Callable[[], str]] = {"upstream.base_url": lambda: check_base_url(url, allow_http)}
    if proxy is not None:
        checks["upstream.proxy"] = lambda: check_proxy(proxy)
    for key, check in checks.items():
        try:
            values[key] = check()
        except ConfigurationError as error:
            raise _error(key, origins[key], f"cannot be used: {error.message}", error.hint) from None


def _error(key: str, origin: str, problem: str, cure: str | None) -> ConfigurationError:
    place = "command line" if origin == "flag" else origin
    return ConfigurationError(f"{place}: {key} {problem}", hint=cure)


# Unknown names are refused: if a misspelt setting were silently ignored, it would look like one that does not work.


def refuse_unknown_variables(env: Mapping[str, str]) -> None:
    """Checks that every MIRROR_* variable is a known one, or one that Kubernetes sets for a Service.

    Raises:
        ConfigurationError: a variable is unknown. The message names the variable, and never its value.
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
    """Whether Kubernetes has set this variable in the pod, for a Service named `mirror` or `mirror-…`.

    https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables. A name that could be a
    misspelt one of ours (`MIRROR_SERV_PORT`) counts only if its value is an address like `tcp://10.0.0.11:8080`.
    """
    if _OF_A_SERVICE.fullmatch(name):
        return True
    return name.endswith("_PORT") and re.fullmatch("(tcp|udp|sctp)://.+", value) is not None


def _suggest_variable(name: str) -> str:
    import difflib

    # Compares without the prefix, which would make any two of them look alike.
    words = [variable.removeprefix(_PREFIX) for variable in _VARIABLES]
    near = difflib.get_close_matches(name.removeprefix(_PREFIX), words, n=1)
    unset = "unset it; docs/configuration.md lists the variables that are read"
    return f"did you mean '{_PREFIX}{near[0]}'?" if near else unset


def _refuse_unknown_flags(overrides: Iterable[str]) -> None:
    """Checks that every override is an option other than `root`, which has a parameter of its own."""
    for key in overrides:
        if key == "root" or key not in BY_KEY:
            raise ConfigurationError(f"command line: unknown key {key!r}", hint=suggest_or_list(key, BY_KEY))


def refuse_unknown_keys(document: Mapping[str, Any], file: Path | None) -> None:
    """Checks that every table and key of a file is known.

    Raises:
        ConfigurationError: one is unknown. The message names the file and the key.
    """
    for name, value in document.items():
        if name in SECTIONS:
            if not isinstance(value, dict):
                raise ConfigurationError(
                    f"{file}: {name} is {quote(value)}, not a table", hint=f"write [{name}] above its keys"
                )
            _refuse_unknown_in_section(value, name, file)
        elif name not in _TOP:
            _refuse_api_key(name, name, file)
            if isinstance(value, (dict, list)):
                raise ConfigurationError(f"{file}: unknown section {quote(name)}", hint=suggest_or_list(name, SECTIONS))
            cure = _other_section(name) or suggest_or_list(name, (*_TOP, *SECTIONS))
            raise ConfigurationError(f"{file}: unknown key {quote(name)}", hint=cure)


def _refuse_unknown_in_section(table: Mapping[str, Any], section: str, file: Path | None) -> None:
    known = [option.name for option in OPTIONS if option.section == section]
    for name in table:
        if name not in known:
            key = f"{section}.{name}"
            _refuse_api_key(name, key, file)
            cure = suggest(name, known) or _other_section(name) or suggest_or_list(name, known)
            raise ConfigurationError(f"{file}: unknown key {quote(key)}", hint=cure)


def _refuse_api_key(name: str, key: str, file: Path | None) -> None:
    if name.lower() in _KEY_NAMES:
        problem = f"{key} is never set in this file, which gets copied and shown"
        raise ConfigurationError(f"{file}: {problem}", hint=_KEY_CURE)


def _other_section(name: str) -> str | None:
    """A hint to the right table, for a key in the wrong one; None if no table has such a key."""
    option = next((option for option in OPTIONS if option.name == name and option.section), None)
    return f"{name} belongs in [{option.section}]" if option else None
