"""The way in, of `mirror` and of `python -m registry_mirror`.

Imports nothing at first: Ctrl-C in the first moments comes while the rest is being imported, and ends with 130 and one
line as it does later. A command line without click ends with one line too.
"""


def main() -> None:
    """The `mirror` command: runs a verb and exits with its code."""
    import gc
    import sys

    # Imports and catalogs make objects by the hundred thousand that all stay. To look for cycles in them as often as
    # Python does by itself takes a twentieth of a short run.
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
    """Whether Python can read the clock: nanoseconds in 64 bits end in 2262, and modules read it when imported."""
    import time

    try:
        time.time()
    except OverflowError:
        return False
    return True


if __name__ == "__main__":
    main()
