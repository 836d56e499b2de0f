"""The one table of options. The file's parser, the environment's names, `config show`, config.example.toml and
docs/configuration.md all follow it, and a test holds them to it. Standard library only.
"""

from __future__ import annotations

import os
import re

from ..urls import hide_password
from . import kinds
from .invalid import KEY_PREFIX, Invalid
from .kinds import Option
from .serve import SERVE_OPTIONS
from .settings import (
    DaemonSettings,
    RetentionSettings,
    Rule,
    ServeSettings,
    Settings,
    StoreSettings,
    SyncSettings,
    UpstreamSettings,
)

__all__ = [
    "BY_KEY",
    "OPTIONS",
    "SECTIONS",
    "DaemonSettings",
    "Option",
    "RetentionSettings",
    "Rule",
    "ServeSettings",
    "Settings",
    "StoreSettings",
    "SyncSettings",
    "UpstreamSettings",
]


def _variable(name: str) -> str:
    """The name of an environment variable in POSIX's own spelling, which no API key has: a key that was pasted here by
    mistake is refused, before anything prints it.
    """
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise Invalid(
            "is not the name of an environment variable", 'write a name like "PICTOGRAPH_API_KEY", never the key'
        )
    return name


def _not_a_key(path: str) -> str:
    """A path; the key in its place is refused, before anything prints it."""
    if os.path.basename(path).startswith(KEY_PREFIX):
        raise Invalid("looks like the API key itself", "put the key in a file of its own, and give that file's path")
    return path


OPTIONS = (
    Option(
        "root",
        kinds.path("path"),
        None,
        "The folder that holds the mirror: blobs, catalog, index and config.toml.",
        "Without it the user's data folder is used (~/.local/share/registry-mirror on Linux), so that a first try "
        "needs no rights. It is the one setting that ROOT/config.toml cannot make, because the root leads to that "
        "file: use --root, MIRROR_ROOT or a file that --config names.",
    ),
    Option(
        "upstream.base_url",
        kinds.text("URL", show=hide_password),
        "https://api.pictograph.io",
        "The remote registry that this root mirrors.",
        "It is https because the API key travels to it; http is for loopback, or for a trusted network with "
        "allow_http. A path prefix is kept, so another mirror behind a reverse proxy can be the upstream too.",
        also_env=("PICTOGRAPH_BASE_URL",),
    ),
    Option(
        "upstream.api_key_env",
        kinds.text("name of an environment variable, in capitals", _variable),
        "PICTOGRAPH_API_KEY",
        "The name of the environment variable that holds the API key.",
        "The official SDK reads the same variable, so a box that runs it needs nothing new. The key itself is never in "
        "config.toml, which gets copied, committed and shown.",
    ),
    Option(
        "upstream.api_key_file",
        kinds.path("path", _not_a_key),
        None,
        "A file whose only line is the API key; it wins over the environment variable.",
        "A cron job or a service has no shell profile to export from, and container and systemd secrets are files.",
    ),
    Option(
        "upstream.allow_http",
        kinds.flag(),
        False,  # noqa: FBT003 - a column of the table
        "Whether the base URL may be plain http on a host other than this one.",
        "Over http anyone on the way can read the API key, so it takes a second, deliberate line.",
    ),
    Option(
        "upstream.timeout",
        kinds.duration("1s", "1h"),
        "30s",
        "How long to wait for a connection, or for the next bytes, before the call counts as failed.",
        "An answer of the API may take four times as long in all, so a call ends after its four tries, sixteen times "
        "this and retry_budget. It is not a limit on a whole download: large weights take as long as they keep coming, "
        "and those that stalled go on over a new connection.",
    ),
    Option(
        "upstream.retry_budget",
        kinds.duration("0s", "10m"),
        "20s",
        "How long a failing call is waited for in all, over its four tries, before it counts as failed.",
        "It bridges a restart or a short outage; a longer one is for the next run. A Retry-After of up to a minute is "
        "obeyed besides.",
    ),
    Option(
        "upstream.page_size",
        kinds.whole(1, 1000),
        100,
        "How many models one page of the listing asks for.",
        "100 is the most that the platform's API is known to take; when an upstream refuses a larger one it is halved. "
        "Pages that are too large to be read, or come too slowly, are asked for in smaller pieces; a smaller size here "
        "saves those requests. A listing ends after 5000 pages of a hundred, or as many more smaller ones.",
    ),
    Option(
        "upstream.proxy",
        kinds.text("http or https URL", show=hide_password),
        None,
        "The proxy for all calls, API and storage alike.",
        "Without it HTTPS_PROXY and NO_PROXY are honoured as usual; a cron job often lacks them. A password in it is "
        "masked wherever it would be shown.",
    ),
    Option(
        "upstream.ca_file",
        kinds.path("path"),
        None,
        "Certificates (PEM) to trust besides the usual ones.",
        "For a company's TLS-inspecting proxy or a private upstream. There is no switch that turns the check off.",
    ),
    Option(
        "sync.formats",
        kinds.choices("onnx", "pytorch", "safetensors", "pte", "engine"),
        ["onnx"],
        "Which formats of each model's weights to fetch.",
        "ONNX runs anywhere; each further format is another download and more disk for every model.",
    ),
    Option(
        "sync.workers",
        kinds.whole(1, 64),
        8,
        "How many models are fetched at once, at most.",
        "Eight fill most lines, also from a storage that is slow for one connection; more mostly meet the upstream's "
        "rate limit sooner. While the processor is busy with three, no more are begun.",
    ),
    Option(
        "sync.connections",
        kinds.whole(1, 64),
        8,
        "How many connections to storage there are at once.",
        "A storage that is slow for one connection is often fast for eight. A large file begins with one, gets more "
        "where nothing else needs them, and loses them again unless they bring more. Each file that is fetched has one "
        "in any case.",
    ),
    Option(
        "sync.max_rate",
        kinds.rate("100 KB"),
        None,
        "The most that all downloads together take of the line, in bytes a second.",
        "Without it they take what the line gives. Where people need it by day, sync at a rate by day and without one "
        'by night: MIRROR_SYNC_MAX_RATE="2 MB/s" in the one cron line of the two.',
    ),
    Option(
        "sync.publish_every",
        kinds.duration("0s", "1h"),
        "5s",
        "At most how often the index is published while a run goes on.",
        "Readers see a model soon after it has arrived, without an index written for each one.",
    ),
    Option(
        "sync.on_failure",
        kinds.command(),
        None,
        "A command to run when a run ends partial or failed.",
        "A mirror that has quietly stopped is worse than a loud one. No shell reads the command: for a pipe or a "
        "variable, name a script.",
    ),
    Option(
        "sync.rules",
        kinds.rules(),
        [],
        "Filters: which models a run fetches.",
        "All lists of a rule must match, the first rule that matches decides, and a model that no rule matches is "
        "included, so no rules means every model.",
        in_env=False,
    ),
    Option(
        "daemon.every",
        kinds.duration("10s", "31d"),
        "15m",
        "How often `mirror daemon` starts a run.",
        "A run with nothing new costs a page of listing for every hundred models, so a quarter of an hour is cheap. "
        "Some jitter is added, so that many mirrors do not call at once.",
    ),
    Option(
        "daemon.max_backoff",
        kinds.duration("10s", "31d"),
        "1h",
        "The longest pause that failed runs in a row may grow to.",
        "An upstream that is down gets fewer calls, and is still noticed within the hour once it is back.",
    ),
    Option(
        "store.shared",
        kinds.choice("private", "group"),
        "private",
        "Who may write to the root: its owner, or the owner's group as well.",
        '"group" widens files and folders to the group whatever the umask says, for a root that several accounts '
        "sync into.",
    ),
    Option(
        "store.quota",
        kinds.size(),
        None,
        "The most that the files in blobs/ may take together.",
        "Without it the disk is the limit. A sync never begins a file that would go over it; `mirror gc` makes room.",
    ),
    Option(
        "store.quota_high",
        kinds.whole(1, 100),
        95,
        "The percentage of the quota above which `mirror gc` evicts weights that the upstream can still give.",
        "Below it nothing is evicted, so that a store which is only nearly full keeps all that it has.",
    ),
    Option(
        "store.quota_low",
        kinds.whole(0, 100),
        85,
        "The percentage of the quota down to which it evicts.",
        "The gap to quota_high lets several syncs go by between two evictions.",
    ),
    Option(
        "store.min_free",
        kinds.size(),
        0,
        "How much of the root's disk a sync leaves free.",
        "0 uses the disk to its end. On a disk that others write to as well, leave them some.",
    ),
    Option(
        "retention.superseded",
        kinds.duration_or_never("0s", "10000d"),
        "30d",
        "How long weights stay after others have taken their place.",
        "A month is time enough to go back to the last version, and a retrained model does not fill the disk.",
    ),
    Option(
        "retention.archived",
        kinds.duration_or_never("0s", "10000d"),
        "never",
        "How long the weights of a model stay after it was archived upstream.",
        "An archived model can be restored, and whoever uses it here does not know that it was archived: only you know "
        "when its weights may go.",
    ),
    Option(
        "retention.gone",
        kinds.duration_or_never("0s", "10000d"),
        "never",
        "How long the weights of a model stay after it has gone from the upstream.",
        "Nobody can fetch them again: this may be the last copy.",
    ),
    Option(
        "retention.quarantine",
        kinds.duration("0s", "10000d"),
        "30d",
        "How long damaged files stay in quarantine/.",
        "They are kept for a look at what went wrong, and the good file has long been fetched again.",
    ),
    Option(
        "retention.grace",
        kinds.duration("0s", "10000d"),
        "7d",
        "How long a file stays after no published index names it any more.",
        "A reader that opened an older index, or a copy of the root that is being made, still finds every file.",
    ),
    *SERVE_OPTIONS,
)

BY_KEY = {option.key: option for option in OPTIONS}
SECTIONS = tuple(dict.fromkeys(option.section for option in OPTIONS if option.section))
