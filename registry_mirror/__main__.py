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
    try:
        from .streams import secure_streams

        secure_streams()
        from .cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("mirror: interrupted\n")
        sys.exit(130)
    except ModuleNotFoundError as error:
        from .missing import missing_library

        words = missing_library(error)
        if words is None:
            raise
        sys.stderr.write(f"mirror: this {words}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
