"""The documentation speaks of verbs, options, files and exit codes that exist, and of all of them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

import registry_mirror
from registry_mirror import errors
from registry_mirror.cli import VERBS, mirror

TOP = Path(__file__).parents[2]
PAGES = [
    *(TOP / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
    *sorted((TOP / "docs").glob("*.md")),
]
UNITS = sorted((TOP / "docs" / "examples").glob("*.service"))
TEXT = {page: page.read_text("utf-8") for page in PAGES}
# A page is found by its path in the checkout, so that a failure names it.
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))


def commands(group: click.Group = mirror, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    """Every verb of the command line, `("config", "check")` included."""
    found: dict[tuple[str, ...], click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[(*prefix, name)] = command
        if isinstance(command, click.Group):
            found |= commands(command, (*prefix, name))
    return found


COMMANDS = commands()


def fences(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def command_lines(text: str) -> list[str]:
    """What stands after `$ ` in console blocks, continued lines joined as far as a quotation mark is open."""
    lines: list[str] = []
    for block in fences(text, "console"):
        opened = ""
        for line in block.splitlines():
            if opened:
                opened += f"\n{line}"
            elif line.startswith("$ "):
                opened = line[2:]
            else:
                continue
            if opened.count('"') % 2 == 0 and opened.count("'") % 2 == 0:
                lines.append(opened)
                opened = ""
        assert not opened, f"a quotation mark is never closed: {opened}"
    return lines


NOT_OURS = {"systemctl", "journalctl", "useradd", "install", "crontab"}


def mirror_arguments(line: str) -> list[str] | None:
    """The arguments of `mirror` in a command line, behind `sudo -u mirror NAME=value /path/to/`; None without one."""
    words = shlex.split(line, comments=True)
    if NOT_OURS & set(words[:2]):
        return None
    for before, word, place in zip(["", *words], words, range(len(words)), strict=False):
        if word.rpartition("/")[2] == "mirror" and before != "-u":
            return words[place + 1 :]
    return None


def parse(arguments: list[str]) -> None:
    """Parses as the command line would, and runs nothing.

    Raises:
        click.UsageError: there is no such verb or option, or an argument is missing.
    """
    group: click.Command = mirror
    context, rest = None, arguments
    while True:
        context = click.Context(group, parent=context, info_name=group.name)
        eager = [option for option in rest if option in {"--help", "-h", "--version"}]
        if eager and isinstance(group, click.Group):
            return
        rest = group.parse_args(context, list(rest))
        if not isinstance(group, click.Group):
            return
        rest = [*context._protected_args, *context.args] if hasattr(context, "_protected_args") else context.args
        assert rest, f"no verb in {arguments}"
        _, command, rest = group.resolve_command(context, rest)
        assert command is not None
        group = command


MIRROR_LINES = [
    (page, line, arguments)
    for page, text in TEXT.items()
    for line in command_lines(text)
    if (arguments := mirror_arguments(line)) is not None
]


@pytest.mark.parametrize("verb", COMMANDS, ids=" ".join)
def test_every_verb_and_each_of_its_options_has_help(verb):
    command = COMMANDS[verb]
    assert command.help
    assert command.get_short_help_str(limit=200).endswith(".")
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{option.opts} of {' '.join(verb)}"


@pytest.mark.parametrize("verb", [*VERBS, "config check", "config show"])
def test_every_verb_is_shown_in_the_documentation(verb):
    shown = [" ".join(arguments) for _, _, arguments in MIRROR_LINES]
    assert any(re.search(rf"(^|\s){verb}(\s|$)", line) for line in shown)


def test_the_readme_names_exactly_the_verbs_that_exist():
    (sentence,) = re.findall(r"The verbs of today are ([^.]*)\.", TEXT[TOP / "README.md"])
    assert set(re.findall(r"`(\w+)`", sentence)) == set(VERBS)


@pytest.mark.parametrize(("page", "line", "arguments"), MIRROR_LINES, ids=[line for _, line, _ in MIRROR_LINES])
def test_a_command_line_that_the_documentation_shows_is_understood(page, line, arguments):
    parse(arguments)


@pytest.mark.parametrize(
    "line", ["mirror snyc", "mirror sync --dryrun", "mirror path", "mirror download X", "mirror config chek"]
)
def test_a_command_line_that_is_not_understood_is_noticed(line):
    with pytest.raises(click.ClickException):
        parse(mirror_arguments(line))


def test_the_command_lines_of_the_documentation_were_found():
    assert len(MIRROR_LINES) > 20
    assert mirror_arguments("sudo -u mirror A=b /opt/x/bin/mirror --root /r sync") == ["--root", "/r", "sync"]
    assert mirror_arguments("sudo systemctl reload mirror") is None


def options_in(text: str) -> set[str]:
    """Long options in inline code that speaks of `mirror` or begins with the option itself."""
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))
    ours = [span for span in spans if span.startswith(("--", "mirror ", *(f"{verb} --" for verb in VERBS)))]
    return {option for span in ours for option in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", span)}


@by_page
def test_an_option_in_the_text_exists(page):
    params = [param for command in (mirror, *COMMANDS.values()) for param in command.params]
    known = {option for param in params for option in param.opts} | {"--help"}
    # pip's, which docs/running.md names alone
    assert options_in(TEXT[page]) - known - {"--no-deps"} == set()


@by_page
def test_every_relative_link_leads_to_a_file_and_to_a_heading(page):
    text = re.sub(r"^```.*?^```$", "", TEXT[page], flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in headings(file.read_text("utf-8")), f"{page.name} links to {target}"


def headings(text: str) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    lines = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in lines}


def error_classes(kind: type[errors.MirrorError] = errors.MirrorError) -> list[type[errors.MirrorError]]:
    children = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [kind, *(each for child in children for each in error_classes(child))]


def test_every_exit_code_is_in_the_table_of_exit_codes_and_in_the_help():
    page = TEXT[TOP / "docs" / "getting-started.md"]
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    # 3 is the outcome of a run, not an error.
    assert listed == {0, 3} | {kind.exit_code for kind in error_classes()}
    assert {int(code) for code in re.findall(r"\b(\d+) [a-z]", mirror.epilog)} == listed


def test_every_failing_exit_code_has_a_message_and_a_cure():
    table = TEXT[TOP / "docs" / "running.md"].split("## When it goes wrong")[1]
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert listed == {3} | {kind.exit_code for kind in error_classes()}


def test_the_tree_of_errors_is_the_one_that_exists():
    page = TEXT[TOP / "docs" / "python.md"]
    shown = {name: int(code) for name, code in re.findall(r"^[│├└─ ]*(\w+) +(\d+)", page, re.MULTILINE)}
    assert shown == {kind.__name__: kind.exit_code for kind in error_classes()}


def test_the_files_of_a_root_are_all_described():
    from registry_mirror.store.root import _OURS

    page = TEXT[TOP / "docs" / "root.md"]
    missing = {name for name in _OURS if name not in page}
    assert missing <= {"keys.toml"}  # reserved for the server, which is not there yet


def test_the_index_on_the_page_is_the_one_that_is_published():
    from registry_mirror.index import schema

    page = TEXT[TOP / "docs" / "root.md"]
    assert str(schema.APPLICATION_ID) in page
    rows = dict(re.findall(r"^\| `(\w+)` \| (`.*) \|$", page, re.MULTILINE))
    tables = f"{schema.TABLES}{schema.CHECKS}{schema.PINS_AND_EVICTED}".replace("IF NOT EXISTS ", "")
    for table, body in re.findall(r"CREATE TABLE (\w+) \((.*?)\n?\)(?: WITHOUT ROWID)?;", tables, re.DOTALL):
        columns = [
            word for line in body.strip().split(",") if (word := line.split()[0]).isidentifier() and word.islower()
        ]
        assert [column for column in re.findall(r"`(\w+)`", rows[table]) if column in columns] == columns


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_line_that_is_understood(unit):
    (line,) = re.findall(r"^ExecStart=(.*)$", unit.read_text("utf-8"), re.MULTILINE)
    parse(mirror_arguments(line))


def test_the_crontab_runs_command_lines_that_are_understood():
    lines = [
        line for line in (TOP / "docs" / "examples" / "crontab").read_text("utf-8").splitlines() if " /opt/" in line
    ]
    assert len(lines) == 3
    for line in lines:
        assert "%" not in line  # cron turns it into a line break
        words = line.split(maxsplit=5)[5].split(" >")[0]
        parse(mirror_arguments(words))


def test_the_picture_is_well_formed_and_described():
    from xml.dom.minidom import parseString

    text = (TOP / "docs" / "dataflow.svg").read_text("utf-8")
    picture = parseString(text).documentElement  # noqa: S318 - a file of our own
    for name in ("title", "desc"):
        (element,) = picture.getElementsByTagName(name)
        assert element.firstChild.data.strip()
        assert element.getAttribute("id") in picture.getAttribute("aria-labelledby").split()


def test_the_modules_and_tests_that_the_architecture_names_exist():
    named = set(re.findall(r"`([\w/]+\.py)`", TEXT[TOP / "docs" / "architecture.md"]))
    assert len(named) > 30
    tests = {path.name for path in (TOP / "tests").glob("*/test_*.py")}
    missing = {name for name in named - tests if not (TOP / "registry_mirror" / name).exists()}
    assert missing == {"config.py"}  # the plan's


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_the_classes_and_paths_that_a_contributor_is_told_of_exist(name):
    source = "".join(path.read_text("utf-8") for path in (TOP / "registry_mirror").rglob("*.py"))
    classes = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]*)*)`", TEXT[TOP / name]))
    assert {each for each in classes if f"class {each}" not in source} == set()
    paths = set(re.findall(r"`((?:registry_mirror|tests|docs|migrations)/[\w./]*)`", TEXT[TOP / name]))
    assert {path for path in paths if not (TOP / path).exists()} <= {"registry_mirror/cli/VERB.py", "registry_mirror/"}


def test_the_changelog_speaks_of_this_version():
    assert f"## {registry_mirror.__version__}" in TEXT[TOP / "CHANGELOG.md"].replace("[", "").replace("]", "")
