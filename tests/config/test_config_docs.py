"""The table of options, config.example.toml and docs/configuration.md say the same, and the errors that the page lists
are the errors that people get.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest
from support import config_pages

from registry_mirror.cli import serve
from registry_mirror.config import OPTIONS, Option, Rule, check_surroundings, load_settings
from registry_mirror.errors import ConfigurationError

TOP = Path(__file__).parents[2]
EXAMPLE = (TOP / "config.example.toml").read_text("utf-8")
PAGE = (TOP / "docs" / "configuration.md").read_text("utf-8")
KEYS = [option.key for option in OPTIONS]
SAID_IN_DOCS = "/srv/models"


@dataclass(frozen=True)
class Mistake:
    """What a person wrote, in config.toml, the environment or a flag, and the line that answers.

    `@` stands for the root; the page says /srv/models in its place.
    """

    line: str
    toml: str = ""
    env: dict[str, str] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)


FILE = "@/config.toml"
MISTAKES = (
    Mistake(
        f"{FILE}: unknown key 'sync.worker'; did you mean 'workers'?",
        "[sync]\nworker = 8",
    ),
    Mistake(
        f"{FILE}: unknown key 'workers'; workers belongs in [sync]",
        "workers = 8",
    ),
    Mistake(
        f"{FILE}: unknown section 'upsteam'; did you mean 'upstream'?",
        "[upsteam]\ntimeout = 3",
    ),
    Mistake(
        "environment MIRROR_SYNC_WORKER: no such setting; did you mean 'MIRROR_SYNC_WORKERS'?",
        env={"MIRROR_SYNC_WORKER": "8"},
    ),
    Mistake(
        f"{FILE}, line 2: not TOML: invalid value; mend that line; `mirror config check` says when it is right",
        "[sync]\nworkers = many",
    ),
    Mistake(
        f"{FILE}: upstream.api_key is never set in this file, which gets copied and shown; export it as "
        "PICTOGRAPH_API_KEY, or put it in a file of its own and name that as api_key_file in [upstream]",
        '[upstream]\napi_key = "pk_live_hidden"',
    ),
    Mistake(
        f"{FILE}: upstream.base_url cannot be used: the base URL 'http://registry.example' would carry the API key "
        "over plain http; use https, or set allow_http = true if the network in between is trusted",
        '[upstream]\nbase_url = "http://registry.example"',
    ),
    Mistake(
        f"""{FILE}: upstream.timeout is '30 parsecs', which is not a duration; write it like "90s", "15m", """
        '"1h30m", "7d" or a number of seconds',
        '[upstream]\ntimeout = "30 parsecs"',
    ),
    Mistake(
        "environment MIRROR_SYNC_WORKERS: sync.workers is 0, out of range; use a whole number from 1 to 64",
        env={"MIRROR_SYNC_WORKERS": "0"},
    ),
    Mistake(
        "command line: daemon.every is '1s', out of range; use a duration from 10s to 31d",
        flags={"daemon.every": "1s"},
    ),
    Mistake(
        "environment MIRROR_SYNC_FORMATS: sync.formats names 'onxx', which nobody knows; did you mean 'onnx'?",
        env={"MIRROR_SYNC_FORMATS": "onxx"},
    ),
    Mistake(
        f"{FILE}: sync.rules has an unknown key 'name' in rule 1; did you mean 'names'?",
        '[[sync.rules]]\naction = "exclude"\nname = ["tmp-*"]',
    ),
    Mistake(
        "environment MIRROR_STORE_SHARED: store.shared is empty; give it a value, or leave it out",
        env={"MIRROR_STORE_SHARED": ""},
    ),
    Mistake(
        "environment MIRROR_CONFIG: @/absent.toml does not exist; check the path, or leave it out to use "
        "ROOT/config.toml",
        env={"MIRROR_CONFIG": "@/absent.toml"},
    ),
    Mistake(
        f"{FILE}: root is '/srv/other', but this file was found through the root '@'; remove root from it, or use "
        "--root /srv/other",
        'root = "/srv/other"',
    ),
    Mistake(
        "no API key: the environment variable PICTOGRAPH_API_KEY is not set; give one with "
        "`export PICTOGRAPH_API_KEY=pk_live_…`, or put it in a file and name that as api_key_file under [upstream] in "
        "@/config.toml"
    ),
    Mistake(
        "environment PICTOGRAPH_API_KEY: the API key has quotes around it; set PICTOGRAPH_API_KEY to the key alone, as "
        "the platform shows it, without quotes",
        env={"PICTOGRAPH_API_KEY": '"pk_live_hidden"'},
    ),
    Mistake(
        "upstream.api_key_file: @/api.key does not exist; put the key on one line in it, readable by the user who runs "
        "the mirror",
        '[upstream]\napi_key_file = "api.key"',
    ),
    Mistake(
        f"{FILE}: upstream.ca_file @/company.pem does not exist; name a readable file of certificates in PEM",
        '[upstream]\nca_file = "company.pem"',
        env={"PICTOGRAPH_API_KEY": "pk_live_hidden"},
    ),
    Mistake(
        f"{FILE}: sync.on_failure names '/no/alert', which is no program here; give its full path, and see that it is "
        "executable",
        '[sync]\non_failure = "/no/alert"',
        env={"PICTOGRAPH_API_KEY": "pk_live_hidden"},
    ),
)


def plain(text: str) -> str:
    """Text without comment signs and line ends, to compare sentences that are wrapped differently."""
    return " ".join(re.sub(r"^# ?", "", text, flags=re.MULTILINE).split())


def uncommented() -> str:
    """The example with every setting taken into use: a setting is a line that begins with # and no space."""
    return re.sub(r"^#(?=\S)", "", EXAMPLE, flags=re.MULTILINE)


def example_keys() -> list[str]:
    document = tomllib.loads(uncommented())
    nested = [(name, value) for name, value in document.items() if isinstance(value, dict)]
    top = [name for name, value in document.items() if not isinstance(value, dict)]
    return top + [f"{section}.{name}" for section, table in nested for name in table]


def example_of(option: Option) -> object:
    document = tomllib.loads(uncommented())
    return (document[option.section] if option.section else document)[option.name]


def comment_above(option: Option) -> str:
    """The prose that stands before an option's line in the example."""
    line = "#[[sync.rules]]" if option.key == "sync.rules" else f"#{option.name} = "
    section = EXAMPLE.split(f"\n[{option.section}]\n", 1)[1] if option.section else EXAMPLE
    return plain(section.split(f"\n{line}", 1)[0].rsplit("\n\n", 1)[-1])


def default_of(option: Option) -> str:
    return "none" if option.default in (None, []) else json.dumps(option.default)


def page_of(option: Option) -> str:
    """The part of the reference under an option's heading."""
    return re.split(r"^##", PAGE.split(f"\n#### `{option.key}`\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_the_example_and_the_reference_are_what_the_settings_say() -> None:
    """`make docs` writes both."""
    assert config_pages.example(EXAMPLE) == EXAMPLE
    assert config_pages.page(PAGE) == PAGE


@pytest.mark.parametrize("name", ["host", "port"])
def test_the_help_of_serve_gives_the_defaults_of_the_settings(name: str) -> None:
    (help_text,) = [each.help for each in serve.command.params if isinstance(each, click.Option) and each.name == name]
    (option,) = [each for each in OPTIONS if each.key == f"serve.{name}"]
    assert help_text is not None
    assert f"[default: {option.default}]" in help_text


def test_the_example_changes_nothing_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(EXAMPLE, "utf-8")
    with_it = load_settings(root=tmp_path, env={})
    assert with_it.file == tmp_path / "config.toml"
    assert set(with_it.origins.values()) == {"flag", "default"}


def test_the_example_has_every_key_once_in_the_tables_order() -> None:
    assert example_keys() == KEYS


def test_the_example_with_all_lines_in_use_is_a_sound_configuration(tmp_path: Path) -> None:
    file = tmp_path / "example.toml"
    file.write_text(uncommented(), "utf-8")
    loaded = load_settings(config=file, env={})
    assert set(loaded.origins.values()) == {str(file)}
    assert loaded.settings.sync.rules == (
        Rule("exclude", names=("*-draft", "tmp-*")),
        Rule("include", types=("object_detection", "classification"), architectures=("rf-detr*",), statuses=("ready",)),
        Rule("exclude"),
    )


@pytest.mark.parametrize("option", OPTIONS, ids=KEYS)
def test_the_example_gives_the_default_what_it_is_why_and_the_variable(option: Option) -> None:
    if option.default not in (None, []):
        assert example_of(option) == option.default
    names = ", then ".join(option.env_names) or "not from the environment"
    said = f"{option.help} {option.why} Default: {default_of(option)}. Environment: {names}."
    assert comment_above(option) == said


def test_the_page_has_a_heading_for_every_key_in_the_tables_order() -> None:
    assert re.findall(r"^#### `(.+)`$", PAGE, flags=re.MULTILINE) == KEYS


@pytest.mark.parametrize("option", OPTIONS, ids=KEYS)
def test_the_page_gives_type_default_variable_what_it_is_and_why(option: Option) -> None:
    default = default_of(option)
    shown = default if default == "none" else f"`{default}`"
    names = ", then ".join(f"`{name}`" for name in option.env_names) or "no"
    assert f"\n| {option.kind.name} | {shown} | {names} |\n" in page_of(option)
    assert option.help in plain(page_of(option))
    assert option.why in plain(page_of(option))


def test_the_page_names_no_variable_that_is_not_read() -> None:
    read = {name for option in OPTIONS for name in option.env_names} | {"MIRROR_CONFIG", "PICTOGRAPH_API_KEY"}
    reference = PAGE.split("## When it goes wrong")[0]
    assert set(re.findall(r"\b(?:MIRROR|PICTOGRAPH)_[A-Z_]*[A-Z]\b", reference)) == read


def test_the_pages_filters_are_sound(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        (tmp_path / "config.toml").write_text(example, "utf-8")
        assert load_settings(root=tmp_path, env={}).settings.sync.rules


def raised(mistake: Mistake, folder: Path) -> str:
    """The line that a mistake gets, with the test's folder as `@`."""
    if mistake.toml:
        (folder / "config.toml").write_text(mistake.toml, "utf-8")
    env = {name: value.replace("@", str(folder)) for name, value in mistake.env.items()}
    with pytest.raises(ConfigurationError) as caught:
        check_surroundings(load_settings(root=folder, env=env, overrides=mistake.flags), env)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(str(folder), "@")


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.line[:60])
def test_a_mistake_gets_the_one_line_that_the_page_lists(mistake: Mistake, tmp_path: Path) -> None:
    assert raised(mistake, tmp_path) == mistake.line
    assert f"```text\n{mistake.line.replace('@', SAID_IN_DOCS)}\n```" in PAGE
    assert "hidden" not in mistake.line


def test_the_page_lists_no_error_that_nothing_raises() -> None:
    listed = re.findall(r"```text\n(.*)\n```", PAGE)
    assert listed == [mistake.line.replace("@", SAID_IN_DOCS) for mistake in MISTAKES]
