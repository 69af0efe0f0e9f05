"""Loading of a program's modules without garbage collections; for shards and the control plane.

What modules define stays until the program ends. Each collection would scan all of it and free almost nothing, and two
more at the end of the program would do so again. Without them, a start takes half of the processor time.
"""

from __future__ import annotations

import gc


def begin() -> None:
    """Pause garbage collections. Call this before the imports that take long."""
    gc.disable()


def finish() -> None:
    """Resume garbage collections, which leave out what exists by now."""
    gc.freeze()
    gc.enable()
