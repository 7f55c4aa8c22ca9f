"""What the library under the page remembers of a visit: no more than the page needs.

Its own way is to keep for each caller, programs too, a copy of every component with whatever was
last sent to it, and to forget the oldest of a hundred whoever it is.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

import gradio as gr
from gradio.state_holder import SessionState, StateHolder

from rissole.app.belongings import Belongings
from rissole.app.patches import asking
from rissole.app.state import Visit
from rissole.config import RissoleError

EMPTY_BYTES = 32_768  # of a visit that has neither query nor picture: half of it was measured


class Session(SessionState):
    """The state of one visit, and components whose settings were changed for it.

    Args:
        blocks: the page.
        keep: is called when there is something to keep.
    """

    def __init__(self, blocks: gr.Blocks, keep: Callable[[Session], None]):
        self.blocks_config = copy(blocks.default_config)
        self.config_values: dict = {}
        self.state_data: dict[int, Any] = {}
        self.is_closed, self._keep = False, keep
        self._state_ttl: dict = {}  # never filled: the household knows when it ends

    def __setitem__(self, key: int, value: Any) -> None:
        """Sets a state, or a component with other settings; those of endpoints have none."""
        components = self.blocks_config.blocks
        if key not in components or components[key] is value:
            return
        kept = self.state_data if components[key].stateful else components
        before = kept.get(key, value)
        kept[key] = value
        try:
            self._keep(self)
        except gr.Error:
            kept[key] = before
            raise

    def _update_config(self, key: int) -> None:
        """Keeps no copy."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Keeps no copy."""

    @property
    def size(self) -> int:
        """Bytes, no less than it takes."""
        visits = (value for value in self.state_data.values() if isinstance(value, Visit))
        return EMPTY_BYTES + sum(visit.size for visit in visits)


class Sessions(StateHolder):
    """The sessions of all visits, kept where everything of them is; those of programs nowhere.

    Args:
        kept: where.
    """

    def __init__(self, kept: Belongings):
        super().__init__()
        self.kept = kept
        # alive as long as an event works with them, or they are kept
        self.session_data = weakref.WeakValueDictionary()  # type: ignore[assignment]

    def __getitem__(self, session_id: str) -> Session:
        """The session of a name, a new one if there is none."""
        with self.lock:
            found = self.session_data.get(session_id)
            if found is None:
                found = Session(self.blocks, partial(self._keep, session_id))
                self.session_data[session_id] = found
            return found  # type: ignore[return-value]

    def update(self, session_id: str) -> None:
        """Nobody's session makes way for another."""

    def delete_all_expired_state(self) -> None:
        """The household knows what is to be forgotten."""

    def _keep(self, session_id: str, session: Session) -> None:
        try:
            size = session.size + 2 * len(session_id)
            self.kept.add(session_id, ("visit", session_id), session, size, asking()[0])
        except RissoleError as error:
            raise gr.Error(str(error), print_exception=False) from None
