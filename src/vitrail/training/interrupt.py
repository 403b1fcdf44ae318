"""Ctrl-C and SIGTERM ask the loop to stop at the next step, where its state can be saved."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import current_thread, main_thread
from types import FrameType


@dataclass
class StopRequest:
    """Whether a signal asked to stop.

    Attributes:
        name: Of the signal; empty while none came.
    """

    name: str = ""


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or SIGTERM into a request, and give the handlers back at the end.

    A second signal acts as it always did. Outside the main thread, where Python cannot handle
    signals, no request ever comes.
    """
    request = StopRequest()
    if current_thread() is not main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _frame: FrameType | None) -> None:
        request.name = signal.Signals(number).name
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
