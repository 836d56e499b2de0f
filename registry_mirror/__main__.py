"""The entry point of `mirror` and of `python -m registry_mirror`.

This module imports nothing at its top, so that Ctrl-C during the imports ends with code 130 and one line, as it does
later. A missing library, such as click, ends the command with one line too.
"""


def main() -> None:
    """The `mirror` command: runs a verb and exits with its code."""
    import gc
    import sys

    # Imports and catalogs create hundreds of thousands of objects that stay alive. Python's default threshold searches
    # them for cycles so often that it takes a twentieth of a short run.
    gc.set_threshold(20_000)
    if not _clock_is_usable():
        sys.stderr.write(
            "mirror: the clock of this machine is beyond the year 2262, which no time can be kept of; set it right\n"
        )
        sys.exit(1)
    try:
        from .streams import secure_streams

        secure_streams()
        from .cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("mirror: interrupted\n")
        sys.exit(130)
    except ModuleNotFoundError as error:
        from .errors import missing_library

        words = missing_library(error)
        if words is None:
            raise
        sys.stderr.write(f"mirror: this {words}\n")
        sys.exit(2)


def _clock_is_usable() -> bool:
    """Returns whether Python can read the clock, as modules do when imported: 64-bit nanoseconds end in 2262."""
    import time

    try:
        time.time()
    except OverflowError:
        return False
    return True


if __name__ == "__main__":
    main()
