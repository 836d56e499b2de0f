"""Flags over environment over file over defaults: one `Settings`, and where each value came from.

The environment is read when this is called, never at import. Standard library only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConfigurationError
from ..urls import check_base_url, check_proxy
from .invalid import Invalid
from .known import refuse_unknown_keys, refuse_unknown_options, refuse_unknown_variables
from .root import (
    ConfigFile,
    absolute,
    default_root,
    named_file,
    named_root,
    read_if_there,
    read_named,
    root_of_document,
)
from .schema import (
    OPTIONS,
    DaemonSettings,
    Option,
    RetentionSettings,
    ServeSettings,
    Settings,
    StoreSettings,
    SyncSettings,
    UpstreamSettings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Loaded:
    """What `load_settings` found.

    Attributes:
        settings: every value, checked.
        origins: for each key: "flag", "environment NAME", the file's path, or "default".
        file: the file that was read, None when there was none.
    """

    settings: Settings
    origins: Mapping[str, str]
    file: Path | None


class _Source(NamedTuple):
    """The file and the root, each of which may lead to the other."""

    root: ConfigFile
    file: Path | None
    document: Mapping[str, Any]


class _Given(NamedTuple):
    """A value that somebody gave, before it is checked. A relative path in it is relative to `folder`."""

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
        env: the environment, `os.environ` when None.
        overrides: flags by key, such as {"daemon.every": "1h"}; text or a TOML value; None for one not given.

    Raises:
        ConfigurationError: one line that names the key, where it stands, and the cure.
    """
    env = os.environ if env is None else env
    refuse_unknown_variables(env)
    refuse_unknown_options(overrides)
    source = _locate(root, config, env)
    refuse_unknown_keys(source.document, source.file)
    values: dict[str, Any] = {"root": source.root.path}
    origins = {"root": source.root.origin}
    for option in OPTIONS:
        if option.key != "root":
            given = next(_layers(option, overrides, env, source))
            values[option.key], origins[option.key] = _checked(option, given), given.origin
    _check_urls(values, origins)
    return Loaded(_settings(values), MappingProxyType(origins), source.file)


def _locate(
    root: str | os.PathLike[str] | None, config: str | os.PathLike[str] | None, env: Mapping[str, str]
) -> _Source:
    found, file = named_root(root, env), named_file(config, env)
    if file is not None:
        document = read_named(file)
        named = root_of_document(document, file.path)
        return _Source(found or named or ConfigFile(default_root(env), "default"), file.path, document)
    found = found or ConfigFile(default_root(env), "default")
    own = found.path / "config.toml"
    tables = read_if_there(own)
    if tables is None:
        return _Source(found, None, _NOTHING)
    named = root_of_document(tables, own)
    if named and named.path != found.path:
        raise ConfigurationError(
            f"{own}: root is {str(named.path)!r}, but this file was found through the root {str(found.path)!r}",
            hint=f"remove root from it, or use --root {named.path}",
        )
    return _Source(found, own, tables)


def _layers(
    option: Option, overrides: Mapping[str, object], env: Mapping[str, str], source: _Source
) -> Iterator[_Given]:
    """Everything given for an option, the strongest first; the default ends it."""
    if (flag := overrides.get(option.key)) is not None:
        yield _Given(_split(option, flag, "flag"), "flag", None)
    for name in option.env_names:
        text = env.get(name)
        # Another program's variable that is set to nothing is not a mistake in ours.
        if text is not None and (text.strip() or name not in option.also_env):
            origin = f"environment {name}"
            yield _Given(_split(option, text, origin), origin, None)
    table = source.document.get(option.section, {}) if option.section else source.document
    if source.file and option.name in table:
        yield _Given(table[option.name], str(source.file), source.file.parent)
    yield _Given(option.default, "default", None)


def _split(option: Option, value: object, origin: str) -> object:
    """Text as TOML would have given it."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise _error(option.key, origin, "is empty", "give it a value, or leave it out")
    return option.kind.split(value)


def _checked(option: Option, given: _Given) -> Any:
    """The setting, with a path made absolute."""
    if given.value is None:
        return option.kind.absent
    try:
        value = option.kind.parse(given.value)
    except Invalid as wrong:
        raise _error(option.key, given.origin, wrong.problem, wrong.cure) from None
    if not isinstance(value, Path):
        return value
    try:
        return absolute(value, given.folder)
    except FileNotFoundError:
        problem = "is a relative path, and the present folder was removed"
        raise _error(option.key, given.origin, problem, "give it as an absolute path") from None


def _check_urls(values: dict[str, Any], origins: Mapping[str, str]) -> None:
    """Last, because whether a base URL will do hangs on another option."""
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


def _settings(values: Mapping[str, Any]) -> Settings:
    def section(name: str) -> dict[str, Any]:
        return {option.name: values[option.key] for option in OPTIONS if option.section == name}

    return Settings(
        root=values["root"],
        upstream=UpstreamSettings(**section("upstream")),
        sync=SyncSettings(**section("sync")),
        daemon=DaemonSettings(**section("daemon")),
        store=StoreSettings(**section("store")),
        retention=RetentionSettings(**section("retention")),
        serve=ServeSettings(**section("serve")),
    )
