"""`mirror doctor`."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import click

from .options import GlobalOptions, pass_globals
from .render import print_json, printable

if TYPE_CHECKING:
    from ..upkeep.doctor.finding import DoctorContext, Finding


@click.command()
@click.option("--offline", is_flag=True, help="Do not ask the upstream.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_globals
def command(options: GlobalOptions, *, offline: bool, as_json: bool) -> int:
    """Probe the root, its disk, the settings and the upstream, and say what to do about what is wrong.

    Changes nothing: probe files are written in incoming/ and removed, and the upstream is asked for one model.

    Exits with 0 when there is no problem (warnings are none), and with 1 when there is one.
    """
    from ..upkeep.doctor.examine import examine, has_problems

    found: list[Finding] = []
    context, first = _doctor_context(options, offline=offline)
    for finding in itertools.chain([first], examine(context)):
        found.append(finding)
        if not as_json:
            _tell(finding)
    if as_json:
        report = {
            "ok": not has_problems(found),
            "root": str(context.layout.root),
            "findings": [each.as_json() for each in found],
        }
        print_json({"doctor": report}, indent=None)
    return 1 if has_problems(found) else 0


def _doctor_context(options: GlobalOptions, *, offline: bool) -> tuple[DoctorContext, Finding]:
    """Returns what to probe, and the finding about the configuration."""
    from ..config import check_surroundings, load_settings, read_api_key, resolve_root
    from ..errors import MirrorError
    from ..store.layout import Layout, refuse_file
    from ..upkeep.doctor.finding import DoctorContext, Finding, ProbeVerdict

    try:
        loaded = load_settings(root=options.root, config=options.config)
    except MirrorError as error:
        root = resolve_root(options.root, None, os.environ)
        refuse_file(root)
        return DoctorContext(Layout(root), None, offline=offline), Finding(
            "config", ProbeVerdict.PROBLEM, error.message, error.hint
        )
    refuse_file(loaded.settings.root)
    settings, layout = loaded.settings, Layout(loaded.settings.root)
    # Offline, or in a copy of a root, nothing is synced, so a missing API key is not a problem.
    reads = offline or (os.path.exists(layout.index) and not os.path.exists(layout.catalog))
    key = key_error = None
    try:
        key = read_api_key(settings.upstream, config=loaded.file or settings.root / "config.toml")
    except MirrorError as error:
        # But a key file that is configured and cannot be used is always a problem.
        key_error = None if reads and settings.upstream.api_key_file is None else error
    source = loaded.file or "no config.toml: the defaults and the environment"
    finding = Finding("config", ProbeVerdict.OK, f"the settings can be used ({source})")
    if key is not None:
        try:
            check_surroundings(loaded)
        except MirrorError as error:
            finding = Finding("config", ProbeVerdict.PROBLEM, error.message, error.hint)
    return DoctorContext(layout, settings, key, key_error, offline), finding


def _tell(finding: Finding) -> None:
    click.echo(f"{finding.verdict:<8} {finding.probe:<12} {printable(finding.message)}")
    if finding.cure:
        click.echo(f"{'':<21} -> {printable(finding.cure)}")
