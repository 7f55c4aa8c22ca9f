"""Ctrl-C and orders to end, heard between two steps."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from rissole.training.together import agreed, processes

# a terminal that is closed says SIGHUP, who stops a service or a job SIGTERM
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
SAID = (
    "\nending after this step and keeping what was learned; again: save and end\n",
    "\nsaving and ending; again: end at once, without saving\n",
)


class Interrupts:
    """What a training was told while it worked.

    The first SIGINT ends it after the step in progress. A second one, and SIGTERM or SIGHUP at
    once, leave no time for more than saving; a third ends it where it is. Signals that the process
    ignores (`nohup`) stay ignored, and threads beside the first hear none.

    Attributes:
        heard: signals, in order.
        cuttable: whether the work in progress may be cut short: what is written meanwhile appears
            whole or not at all, and everything is saved.
    """

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.cuttable = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self.before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    @property
    def urgent(self) -> bool:
        """Whether there is time for saving alone."""
        return len(self.heard) > 1 or bool(set(self.heard) - {signal.SIGINT})

    def wanted(self, step: int) -> bool:
        """Whether to end before a step; processes that train together do so at the same one."""
        if processes() == 1:
            return bool(self.heard)
        return step % 20 == 0 and agreed(float(bool(self.heard))) > 0

    def end(self) -> None:
        """Ends as whoever sent the signal expects.

        Raises:
            KeyboardInterrupt: after SIGINT.
            SystemExit: after another, with the code that shells give it.
        """
        if self.heard and self.heard[-1] == signal.SIGINT:
            raise KeyboardInterrupt
        if self.heard:
            raise SystemExit(128 + self.heard[-1])

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard.append(number)
        if len(self.heard) > 2 or (self.cuttable and self.urgent):
            self.end()
        # print() may be what was interrupted, and takes no second call meanwhile
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, SAID[self.urgent].encode())
