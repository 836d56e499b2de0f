"""`python -m registry_mirror`: the same as `mirror`."""

from .cli import main

main()
