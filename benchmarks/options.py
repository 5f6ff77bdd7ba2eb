"""What every benchmark takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """Parsed command line of ``python -m benchmarks NAME``."""

    quick: bool
    """Run a smaller version that ends within about a minute."""
    data: Path | None
    """Directory with labelled data sets; None where the benchmark makes its own."""
    extra: tuple[str, ...] = ()
    """Arguments of the one benchmark, as given after ``--``."""
