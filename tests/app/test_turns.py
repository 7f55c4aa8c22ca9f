"""Whose turn it is, without a server: turns are handed out at once, so nothing here waits."""

import asyncio

import pytest

from rissole.app.limits import Limits
from rissole.app.pace import Ahead, Pace, Tick
from rissole.app.turns import MOST_UNHEARD, SMALL, BusyError, Client, Job, LeftError, Turns
from rissole.config import RissoleError

LONG = 10 * SMALL


def visit(name: str, address: str = "here") -> Client:
    return Client(address, name)


def begin(turns: Turns, name: str, work: float = LONG, kind: str | None = None) -> Job:
    job = Job(visit(name), kind, work)
    turns.enter(job)
    turns.admit(job)
    return job


async def order(turns: Turns, jobs: list[Job]) -> list[Job]:
    """Who gets the turn, one job after another, when all wait and each is done with one step."""
    before = [begin(turns, f"before {n}") for n in range(turns.limits.at_once)]
    for job in before:
        assert await turns.turn(job, 5)
    asked = [asyncio.create_task(turns.turn(job, 5)) for job in jobs]
    await asyncio.sleep(0)
    served = []
    for job in before:
        turns.leave(job)
    while len(served) < len(jobs):
        await asyncio.sleep(0)
        held = [job for job in jobs if job.holds]
        assert len(held) <= turns.limits.at_once
        for job in held:
            served.append(job)
            turns.leave(job)
    await asyncio.gather(*asked)
    return served


def names(jobs: list[Job]) -> list[str]:
    return [job.client.name for job in jobs]


@pytest.fixture
def turns() -> Turns:
    return Turns(Limits(queue=100))


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_client_with_sixty_jobs_does_not_delay_anothers_first(at_once):
    turns = Turns(Limits(queue=100, at_once=at_once))
    jobs = [begin(turns, "greedy") for _ in range(60)] + [begin(turns, "other")]
    assert "other" in names(asyncio.run(order(turns, jobs)))[: 1 + at_once]


def test_clients_take_turns(turns):
    jobs = [begin(turns, name) for name in "aaabbbcc"]
    assert "".join(names(asyncio.run(order(turns, jobs)))) == "abcabcab"


def test_small_jobs_come_first_and_long_ones_are_not_forgotten(turns):
    jobs = [begin(turns, "long") for _ in range(2)]
    jobs += [begin(turns, f"small {n}", SMALL) for n in range(8)]
    served = [job.small for job in asyncio.run(order(turns, jobs))]
    assert served == [True] * 3 + [False] + [True] * 3 + [False] + [True] * 2


def test_a_small_job_interrupts_a_long_one_after_its_step(turns):
    async def both() -> list[bool]:
        long, small = begin(turns, "a"), begin(turns, "b", SMALL)
        assert await turns.turn(long, 5)
        turns.rest(long, 0.1)
        alone = long.holds
        asked = asyncio.create_task(turns.turn(small, 5))
        await asyncio.sleep(0)
        turns.rest(long, 0.1)
        await asked
        return [alone, long.holds, small.holds]

    assert asyncio.run(both()) == [True, False, True]


def test_the_newest_wish_of_a_visit_drops_the_older(turns):
    jobs = [begin(turns, "a", kind="picture") for _ in range(3)]
    other, free = begin(turns, "b", kind="picture"), begin(turns, "a")
    assert [job.left for job in (*jobs, other, free)] == [True, True, False, False, False]
    with pytest.raises(LeftError):
        asyncio.run(turns.turn(jobs[0], 5))


def test_a_full_line_says_so_and_when_to_come_again():
    turns = Turns(Limits(queue=3, at_once=1, each=2))
    programs = Client("there", "programs", program=True)
    for _ in range(2):
        job = Job(programs, work=1000)
        turns.enter(job)
        turns.admit(job)
    more = Job(programs)
    turns.enter(more)
    with pytest.raises(BusyError) as busy:
        turns.admit(more)
    assert 1 <= busy.value.seconds <= 60
    for name in "ab":
        begin(turns, name)
    with pytest.raises(BusyError):
        begin(turns, "c")
    turns.leave(job)
    begin(turns, "c")
    assert turns.place(more)[0] == 1


def test_one_address_leaves_places_in_the_line_for_others():
    turns = Turns(Limits(queue=7, at_once=1, share=50))
    pupils = [Job(visit(f"pupil {number}", "school"), None, LONG) for number in range(5)]
    for job in pupils:
        turns.enter(job)
    for job in pupils[:4]:
        turns.admit(job)
    with pytest.raises(BusyError):
        turns.admit(pupils[4])
    begin(turns, "at home", LONG)


def test_what_nobody_listens_to_is_not_begun(turns, monkeypatch):
    monkeypatch.setattr("rissole.app.turns.UNHEARD", 0)
    job = Job(Client("here", "a", frozenset({"stream"})))
    turns.enter(job)
    with pytest.raises(LeftError):
        asyncio.run(turns.heard(job))
    turns.opened("stream")
    asyncio.run(turns.heard(job))
    turns.closed("stream", cut=False)  # all was said on it, and there may be another soon
    assert not job.left
    turns.opened("stream")
    turns.opened("stream")
    turns.closed("stream", cut=True)
    assert not job.left
    turns.closed("stream", cut=True)
    assert job.left


def test_few_jobs_wait_to_be_heard(turns):
    jobs = [Job(Client("here", f"{n}", frozenset({f"{n}"}))) for n in range(MOST_UNHEARD + 3)]
    for job in jobs:
        turns.enter(job)
    assert [job.left for job in jobs] == [True] * 3 + [False] * MOST_UNHEARD


# ---- handlers ------------------------------------------------------------------------------------

WORDS = {"title": "No", "slow": "too slow", "busy": "busy, {seconds} s", "left": "left"}


async def all_of(steps) -> list:
    return [value async for value in steps]


def test_a_handler_runs_step_by_step_and_shows_what_it_yields(turns):
    turns_had, ended = [], []

    def handler(first, second=2):
        try:
            yield Ahead(LONG)
            turns_had.append([job.work for job in turns._jobs if job.holds])
            yield first
            yield Tick()
            yield second
        finally:
            ended.append(True)

    stepped = Pace(turns, WORDS).stepped(handler)
    assert asyncio.run(all_of(stepped(1))) == [1, 2]
    assert (turns_had, ended, turns._jobs) == ([[LONG]], [True], [])


def test_an_endpoint_may_return_steps(turns):
    def steps():
        yield Tick()
        return 7

    pace = Pace(turns, WORDS)
    assert asyncio.run(pace.answered(lambda value: value)(5)) == 5
    assert asyncio.run(pace.answered(lambda: steps(), program=True)()) == 7


def test_an_error_is_raised_and_the_turn_is_free_again(turns):
    def handler():
        yield 1
        raise RissoleError("no")

    with pytest.raises(RissoleError, match="no"):
        asyncio.run(all_of(Pace(turns, WORDS).stepped(handler)()))
    assert turns._jobs == []


def test_what_takes_too_long_is_told_so_once():
    turns, told = Turns(Limits(seconds=1)), []

    def handler():
        (job,) = turns._jobs
        job.spent = 2.0
        try:
            while True:
                yield 1
        except RissoleError as error:
            told.append(str(error))
            yield 2

    assert asyncio.run(all_of(Pace(turns, WORDS).stepped(handler)())) == [1, 2]
    assert told == ["too slow"]


def test_a_handler_that_is_closed_ends_within_a_step(turns):
    ended = []

    def handler():
        try:
            while True:
                yield 1
        finally:
            ended.append(True)

    async def some() -> None:
        steps = Pace(turns, WORDS).stepped(handler)()
        assert await anext(steps) == 1
        await steps.aclose()

    asyncio.run(some())
    assert (ended, turns._jobs) == ([True], [])


def test_a_task_that_is_cancelled_in_a_step_ends_with_it(turns):
    import threading

    inside, go, ended = threading.Event(), threading.Event(), []

    def handler():
        try:
            inside.set()
            assert go.wait(180)
            yield 1
        finally:
            ended.append(True)

    async def cancelled() -> None:
        task = asyncio.create_task(all_of(Pace(turns, WORDS).stepped(handler)()))
        await asyncio.to_thread(inside.wait, 20)
        task.cancel()
        await asyncio.sleep(0)
        assert (ended, len(turns._jobs)) == ([], 1)  # a step cannot be broken off
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert (ended, turns._jobs) == ([True], [])


def test_limits_come_from_options_and_the_environment(monkeypatch):
    from rissole.app.__main__ import parse

    monkeypatch.setenv("RISSOLE_WORK", "50")
    assert Limits.given(parse(["--at-once", "2"])) == Limits(work=50, at_once=2)
    for wrong in ("0", "-1", "1.5", "²", "9" * 5000):
        with pytest.raises(RissoleError, match=r"^seconds must be"):
            Limits.given(parse(["--seconds", wrong]))
