"""Writes what is made from the settings' own descriptions: config.example.toml and the reference of
docs/configuration.md. `make docs` calls it, and a test compares.
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from registry_mirror.config import OPTIONS
from registry_mirror.config.settings import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry_mirror.config import Option

TOP = Path(__file__).parent.parent.parent
EXAMPLE = TOP / "config.example.toml"
PAGE = TOP / "docs" / "configuration.md"
_REFERENCE, _AFTER = "## Reference\n", "## When it goes wrong\n"


def example(present: str) -> str:
    """The example: the introduction of the present one, then every option."""
    introduction, _, _ = present.partition("\n\n")
    return f"{introduction}\n\n{_by_section(_in_example, '[{}]')}"


def page(present: str) -> str:
    """The page with its reference written anew."""
    before, _, rest = present.partition(_REFERENCE)
    _, _, after = rest.partition(_AFTER)
    return f"{before}{_REFERENCE}\n### Top level\n\n{_by_section(_on_page, '### {}')}\n{_AFTER}{after}"


def _by_section(write: Callable[[Option], str], heading: str) -> str:
    """Every option in order, each section under its heading: its name in the example, what it is about on the page."""
    parts: list[str] = []
    section = ""
    for option in OPTIONS:
        if option.section != section:
            section = option.section
            about = (SECTIONS[section].__doc__ or "").partition(".\n")[0]
            parts.append(heading.format(about if "#" in heading else section) + "\n")
        parts.append(write(option))
    return "\n".join(parts)


def _in_example(option: Option) -> str:
    names = ", then ".join(option.env_names) or "not from the environment"
    comment = [option.help, *_wrapped(option.why, 108), f"Default: {_default(option)}. Environment: {names}."]
    return "".join(f"# {line}\n" for line in comment) + "".join(f"{line}\n" for line in _assignment(option))


def _assignment(option: Option) -> Iterator[str]:
    value = option.example if option.default in (None, []) else option.default
    if option.key != "sync.rules":
        yield f"#{option.name} = {_toml(value)}"
        return
    assert isinstance(value, list)
    for place, table in enumerate(value):
        yield from [""] if place else []
        yield f"#[[{option.key}]]"
        yield from (f"#{name} = {_toml(each)}" for name, each in table.items())


def _on_page(option: Option) -> str:
    names = ", then ".join(f"`{name}`" for name in option.env_names) or "no"
    default = _default(option)
    row = f"| {option.kind.name} | {default if default == 'none' else f'`{default}`'} | {names} |"
    table = f"| type | default | environment |\n|---|---|---|\n{row}\n"
    prose = "\n\n".join("\n".join(_wrapped(text, 120)) for text in (option.why, option.details) if text)
    return f"#### `{option.key}`\n\n{option.help}\n\n{table}\n{prose}\n"


def _default(option: Option) -> str:
    return "none" if option.default in (None, []) else _toml(option.default)


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _wrapped(text: str, width: int) -> list[str]:
    """Lines that break in no code."""
    whole = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(whole, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]


if __name__ == "__main__":
    for path, write in ((EXAMPLE, example), (PAGE, page)):
        path.write_text(write(path.read_text("utf-8")), "utf-8")
