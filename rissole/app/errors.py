"""What a visitor reads when something does not work: always one clear line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import gradio as gr

from rissole.config import RissoleError

log = logging.getLogger(__name__)


def one_line(error: Exception, words: dict[str, str]) -> str:
    """What a visitor reads about an error: ours as it is, any other without its details."""
    if isinstance(error, (RissoleError, gr.Error)):
        return str(getattr(error, "message", error)).replace("\n", " ")
    log.error("unexpected error", exc_info=error)
    return words["unexpected"]


@contextlib.contextmanager
def clear_errors(words: dict[str, str]) -> Iterator[None]:
    """Turns every error inside into a `gr.Error` of one clear line."""
    try:
        yield
    except Exception as error:
        line = one_line(error, words)
        raise gr.Error(line, title=words["title"], print_exception=False) from None
