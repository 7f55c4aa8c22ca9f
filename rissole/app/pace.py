"""Every function behind the page and the endpoints, run step by step in fair turns.

A handler stays what it was: a function that returns, or a generator that yields what is shown. Long
work is a generator that also yields a `Tick` after each step without anything to show, and says
first, by `Ahead`, how much it will be. An endpoint may return such a generator, whose own return
value is then the answer.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Generator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import anyio
import gradio as gr

from rissole.app.errors import answer
from rissole.app.patches import asking, calling_visit, forget_unread
from rissole.app.turns import BusyError, Client, Job, LeftError, Turns
from rissole.config import RissoleError

PATIENCE = 1.0  # seconds between two messages to who waits

Steps = Generator[Any, None, Any]


@dataclass(frozen=True)
class Tick:
    """A step was done, and nothing is to be shown."""


@dataclass(frozen=True)
class Ahead:
    """How much is to be computed, see `cost`."""

    work: float


@dataclass(frozen=True)
class Waiting:
    """It is not this job's turn.

    Attributes:
        ahead: how many are before it; None where the line is full.
        seconds: about how long it will take.
    """

    ahead: int | None
    seconds: int

    @property
    def message(self) -> dict[str, Any]:
        """What the canvas is told."""
        return {"state": "waiting", "ahead": self.ahead, "seconds": self.seconds}


@dataclass(frozen=True)
class _Result:
    value: Any


def answering(handler: Callable[..., Steps]) -> Callable[..., Any]:
    """Of a generator, a handler that shows nothing on the way: its return value is the answer."""

    @functools.wraps(handler)
    def once(*given: Any, **named: Any) -> Steps:
        return handler(*given, **named)

    return once


class Pace:
    """Runs the handlers of a page in turns.

    Args:
        turns: who hands them out.
        words: the texts of errors.
    """

    def __init__(self, turns: Turns, words: dict[str, str]):
        self.turns, self.words = turns, words

    def everything(
        self, demo: gr.Blocks, endpoints: Collection[str], canvases: Collection[gr.HTML]
    ) -> None:
        """Paces all that a page does, but for what is done when it is closed.

        Args:
            demo: the page, complete.
            endpoints: names of what is for programs.
            canvases: of its pages; each is told who waits.
        """
        shown = [[canvas] for canvas in canvases]
        for listener in demo.fns.values():
            if listener.fn is None or any(event == "unload" for _, event in listener.targets):
                continue
            listener.concurrency_limit = None  # our own line is fair, and has a limit
            if inspect.isgeneratorfunction(listener.fn):
                # only one is wanted at a time; sketches, in the canvas alone, see to it themselves
                paints = listener.outputs[:1] in shown and len(listener.outputs) > 1
                width = len(listener.outputs) if paints else 0
                listener.fn = self.stepped(listener.fn, "picture" if paints else None, width)
            else:
                program = listener.api_name in endpoints
                listener.fn = self.answered(listener.fn, program)

    def stepped(self, handler: Callable, kind: str | None = None, width: int = 0) -> Callable:
        """A generator handler of the page.

        Args:
            handler: the generator function.
            kind: a newer run of this kind takes the place of an older one of the same visit.
            width: how many values it yields, the canvas first; 0 where nothing is told.
        """

        @functools.wraps(handler)
        async def steps(*given: Any, **named: Any) -> AsyncIterator[Any]:
            job, done = Job(_client(), kind), False
            async with aclosing(self._paced(job, handler(*given, **named))) as values:
                async for value in values:
                    if isinstance(value, Waiting) and width and not done:
                        yield value.message, *[gr.skip()] * (width - 1)
                    elif not isinstance(value, Waiting | _Result):
                        # a finished picture may wait for a last turn, in which nothing comes
                        done = width > 0 and value[0].get("state") == "done"
                        yield value

        return steps

    def answered(self, handler: Callable, program: bool = False) -> Callable:
        """A handler that returns its answer, or a generator whose return value is it."""

        @functools.wraps(handler)
        async def once(*given: Any, **named: Any) -> Any:
            job = Job(_client(program))
            async with aclosing(self._paced(job, _steps_of(handler, given, named))) as values:
                async for value in values:
                    if isinstance(value, _Result):
                        return value.value
            raise answer(self.words["left"], self.words)

        return once

    async def _paced(self, job: Job, steps: Steps) -> AsyncGenerator[Any, None]:
        """What is shown of a job, `Waiting` in between, and its result; ends early if nobody waits
        for it."""
        turns = self.turns
        turns.enter(job)
        try:
            await turns.heard(job)
            while (wait := self._refused(job)) is not None:
                yield wait
                await turns.pause(job, PATIENCE)
            while True:
                while not await turns.turn(job, PATIENCE):
                    yield Waiting(*turns.place(job))
                value = await self._step(job, steps)
                if isinstance(value, Ahead):
                    job.work = value.work
                elif not isinstance(value, Tick):
                    yield value
                if isinstance(value, _Result):
                    turns.learn(job)
                    return
        except LeftError:
            return
        finally:
            steps.close()
            turns.leave(job)
            forget_unread()

    def _refused(self, job: Job) -> Waiting | None:
        """Nothing once a job is in line; programs are told to come again."""
        try:
            self.turns.admit(job)
        except BusyError as busy:
            if job.client.program:
                said = self.words["busy"].format(seconds=busy.seconds)
                raise answer(said, self.words) from None
            return Waiting(None, busy.seconds)
        return None

    async def _step(self, job: Job, steps: Steps) -> Any:
        """One step, in a thread; one that is begun is finished even if nobody wants it any more."""
        late = not job.late and job.spent > self.turns.limits.seconds
        job.late |= late
        error = RissoleError(self.words["slow"]) if late else None
        began = time.perf_counter()
        step = asyncio.ensure_future(anyio.to_thread.run_sync(_advanced, steps, error))
        try:
            return await asyncio.shield(step)
        except asyncio.CancelledError:
            await asyncio.wait([step])
            raise
        finally:
            self.turns.rest(job, time.perf_counter() - began)


def _advanced(steps: Steps, error: Exception | None) -> Any:
    try:
        return next(steps) if error is None else steps.throw(error)
    except StopIteration as end:  # which no thread can pass on
        return _Result(end.value)


def _steps_of(handler: Callable, given: tuple, named: dict) -> Steps:
    result = handler(*given, **named)
    return (yield from result) if inspect.isgenerator(result) else result


def _client(program: bool = False) -> Client:
    """Who asks, as the library knows them; nobody in particular outside a request."""
    (address, event), session = asking(), calling_visit()
    names = frozenset(filter(None, (session, event)))
    visit = f"programs at {address}" if program else session or secrets.token_hex(8)
    return Client(address, visit, names, program)
