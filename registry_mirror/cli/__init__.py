"""The command line, `mirror`. Each verb has a module, which is imported when the verb is called."""

from __future__ import annotations

import errno
import importlib
import sys
from typing import TYPE_CHECKING

import click

from ..errors import MirrorError, NoSpaceError
from .options import GlobalOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = {
    "config": ".config",
    "daemon": ".daemon",
    "delete": ".delete",
    "demo": ".demo",
    "doctor": ".doctor",
    "download": ".download",
    "gc": ".gc",
    "get": ".get",
    "keys": ".keys",
    "list": ".list",
    "path": ".path",
    "pin": ".pin",
    "serve": ".serve",
    "status": ".status",
    "sync": ".sync",
    "verify": ".verify",
}


class LazyGroup(click.Group):
    """Imports a verb's module only when the verb is named: `mirror path` must not import an HTTP client."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module = VERBS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module, __package__).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            ctx.fail(f"No such verb {args[0]!r}.{_did_you_mean(args[0])}")
        return super().resolve_command(ctx, args)


def _did_you_mean(word: str) -> str:
    import difflib

    close = difflib.get_close_matches(word, VERBS, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


@click.group(
    cls=LazyGroup,
    name="mirror",
    subcommand_metavar="VERB [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 some models failed, 4 bad bytes, 5 upstream "
    "unreachable, 6 another run holds the root, 7 no space, 8 no such model, 9 no weights to give, 10 stale, "
    "130 interrupted.",
)
@click.option(
    "--root", metavar="DIR", help="The folder that holds the mirror. [default: your data folder; MIRROR_ROOT]"
)
@click.option("--config", metavar="FILE", help="The configuration. [default: ROOT/config.toml; MIRROR_CONFIG]")
@click.option("-v", "--verbose", is_flag=True, help="Say more on standard error; show tracebacks.")
@click.version_option(package_name="registry-mirror", prog_name="mirror")
@click.pass_context
def mirror(ctx: click.Context, root: str | None, config: str | None, *, verbose: bool) -> None:
    """A local mirror of a remote registry of trained models.

    `mirror sync` copies the models once; everything else reads the copy, with no network.
    """
    ctx.obj = GlobalOptions(root=root, config=config, verbose=verbose)
    if verbose:
        import logging  # not at the top, because it would slow down every `mirror path`

        # Only this package's own logger: the loggers of HTTP libraries write signed addresses.
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger = logging.getLogger("registry_mirror")
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)


def main(args: Sequence[str] | None = None) -> None:
    """The entry point of `mirror`: runs a verb and exits with its code."""
    sys.exit(run(sys.argv[1:] if args is None else list(args)))


def run(args: list[str]) -> int:
    """Runs a verb and returns its exit code. Prints any error in one line on standard error."""
    verbose = "-v" in args or "--verbose" in args
    try:
        code = mirror.main(args, prog_name="mirror", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except MirrorError as error:
        return _fail(str(error), error.exit_code, verbose=verbose)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", 130, verbose=False)
    except OSError as error:
        return _refused(error, verbose=verbose)
    except ModuleNotFoundError as error:
        from ..errors import missing_library

        words = missing_library(error)
        return _fault(error, verbose=verbose) if words is None else _fail(f"this {words}", 2, verbose=verbose)
    except Exception as error:  # noqa: BLE001 - the last resort, so that a user never sees a bare traceback
        return _fault(error, verbose=verbose)
    return code if isinstance(code, int) else 0


def _refused(error: OSError, *, verbose: bool) -> int:
    """Reports an OSError that no other code has translated, such as one of standard output. Returns the exit code."""
    from ..streams import forget_output

    forget_output()
    where = f": {error.filename}" if error.filename else ""
    code = NoSpaceError.exit_code if error.errno in (errno.ENOSPC, errno.EDQUOT) else 1
    from ..errors import too_few_descriptors

    cure = too_few_descriptors(error)
    return _fail(f"{error.strerror or error}{where}{f'; {cure}' if cure else ''}", code, verbose=verbose)


def _fault(error: Exception, *, verbose: bool) -> int:
    return _fail(f"a fault in registry-mirror: {type(error).__name__}: {error}; -v shows where", 1, verbose=verbose)


def _fail(message: str, code: int, *, verbose: bool) -> int:
    if verbose:
        import logging

        logging.getLogger("registry_mirror").debug("where it failed", exc_info=sys.exc_info())
    click.echo(f"mirror: {message}", err=True)
    return code
