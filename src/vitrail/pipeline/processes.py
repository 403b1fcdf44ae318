"""One command as several processes: all of them train, one works and writes alone.

Under ``torchrun`` or ``accelerate launch`` every process runs the same command. Training uses them
all; everything else is the leader's, and the others wait for it at a meeting point.
"""

import os
from datetime import timedelta

from accelerate import PartialState

from vitrail.training.machine import meets_on_cpu

_PATIENCE = timedelta(days=7)
"""How long a process waits for the leader, who may have a long cohort to read."""


def leads() -> bool:
    """Tell whether this process is the one that writes; a process alone always is."""
    return os.environ.get("RANK", "0") == "0"


def local_rank() -> int:
    """Return this process's place on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def share() -> slice:
    """Tell which items of a list are this process's; a process alone has all of them."""
    return slice(int(os.environ.get("RANK", "0")), None, int(os.environ.get("WORLD_SIZE", "1")))


def meet() -> None:
    """Wait until every process has come here; a process alone goes on at once."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        PartialState(cpu=meets_on_cpu(), timeout=_PATIENCE).wait_for_everyone()
