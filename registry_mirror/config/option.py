"""One row of the table of options. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .kinds import Kind


@dataclass(frozen=True, slots=True)
class Option:
    """One setting.

    Attributes:
        key: dotted, as in "upstream.base_url".
        kind: how it is read and shown.
        default: as TOML would have it; None for none.
        help: what it is, in one sentence.
        why: the reason for the default, or for the option.
        also_env: names of the environment that are read after the option's own.
        in_env: False for what has no sensible form in one line.
    """

    key: str
    kind: Kind
    default: object
    help: str
    why: str
    also_env: tuple[str, ...] = ()
    in_env: bool = True

    @property
    def section(self) -> str:
        """The TOML table, empty for the top level."""
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The key inside its table."""
        return self.key.rpartition(".")[2]

    @property
    def env_names(self) -> tuple[str, ...]:
        """The environment's names for it, the strongest first."""
        if not self.in_env:
            return ()
        return (f"MIRROR_{self.key.replace('.', '_').upper()}", *self.also_env)
