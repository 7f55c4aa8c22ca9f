"""What a visitor reads when something does not work: always one clear line."""

from __future__ import annotations

import contextlib
import html
import logging
from collections.abc import Callable, Iterator

import gradio as gr

from rissole.config import RissoleError

log = logging.getLogger(__name__)


def one_line(error: Exception, words: dict[str, str]) -> str:
    """What a visitor reads about an error: ours as it is, any other without its details."""
    if isinstance(error, (RissoleError, gr.Error)):
        return str(getattr(error, "message", error)).replace("\n", " ")
    log.error("unexpected error", exc_info=error)
    return words["unexpected"]


def toast(line: str, words: dict[str, str]) -> gr.Error:
    """The error that shows a line in a corner of the page, where it would be read as HTML.

    The line may quote what anybody put into a link or a picture: it is shown letter by letter.
    """
    return gr.Error(html.escape(line, quote=False), title=words["title"], print_exception=False)


def answer(line: str, words: dict[str, str]) -> gr.Error:
    """The error that a program gets: the line as it is."""
    return gr.Error(line, title=words["title"], print_exception=False)


@contextlib.contextmanager
def clear_errors(
    words: dict[str, str], told: Callable[[str, dict[str, str]], gr.Error] = toast
) -> Iterator[None]:
    """Turns every error inside into a `gr.Error` of one clear line."""
    try:
        yield
    except Exception as error:
        raise told(one_line(error, words), words) from None
