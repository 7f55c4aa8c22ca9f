"""What visits leave in memory and on the disk: whose it is, how much, how long."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from rissole.app import disk as disks
from rissole.app.belongings import Belongings, Presence
from rissole.app.disk import MADE, SENT, Disk
from rissole.app.sizes import held
from rissole.app.state import Query, Visit
from rissole.config import RissoleError


class Clock:
    def __init__(self):
        self.now = time.time()  # as the files of the test have it

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def presence(clock):
    return Presence(unseen=60, clock=clock)


@pytest.fixture
def kept(presence):
    return Belongings(presence, each=10, total=20, count=3, full="no room")


def test_a_visit_pushes_out_its_own_oldest_and_nobody_elses(kept, presence):
    for visit in "ab":
        presence.seen(visit, 1)
    kept.add("b", "theirs", "photos", 10)
    for key in (1, 2, 3):
        kept.add("a", key, key, 4)
    assert [kept.get(key) for key in (1, 2, 3, "theirs")] == [None, 2, 3, "photos"]
    for key in (4, 5, 6):
        kept.add("a", key, key, 1)
    assert [kept.get(key) for key in (2, 3, 4, 5, 6)] == [None, None, 4, 5, 6]


def test_what_is_too_much_is_refused_while_every_page_is_open(kept, presence):
    for visit in "abc":
        presence.seen(visit, 1)
    kept.add("a", 1, 1, 10)
    kept.add("b", 2, 2, 10)
    for size in (1, 11):
        with pytest.raises(RissoleError, match="no room"):
            kept.add("c", 3, 3, size)
    kept.add("a", 1, "changed", 9)  # what replaces its own takes no more room
    assert (kept.get(1), kept.get(2), kept.get(3), kept.size()) == ("changed", 2, None, 19)


def test_closed_pages_make_way_the_longest_unseen_first(kept, presence, clock):
    for visit in "abc":
        kept.add(visit, visit, visit, 6)
        clock.now += 1
    presence.seen("a", 1)
    presence.seen("d", 1)
    kept.add("d", "d", "d", 5)
    assert [kept.get(key) for key in "abcd"] == ["a", None, "c", "d"]


def test_a_visit_ends_when_its_page_was_not_seen_for_long(kept, presence, clock):
    presence.seen("a", 1)
    for visit in "ab":
        kept.add(visit, visit, visit, 1)
    clock.now += 61
    kept.sweep()
    presence.sweep()
    assert (kept.get("a"), kept.get("b")) == ("a", None)
    presence.seen("a", -1)
    clock.now += 59
    kept.sweep()
    assert kept.get("a") == "a"  # a line that broke may come back
    clock.now += 2
    kept.sweep()
    assert kept.size() == 0


def test_one_address_has_so_many_visits_and_a_share_of_the_room(clock):
    presence = Presence(60, clock, most=2, share=0.5)
    kept = Belongings(presence, each=10, total=20, count=3, full="no room")
    assert presence.seen("a", 1, "here")
    kept.add("b", "b", "b", 4, "here")
    kept.add("c", "c", "c", 4, "here")  # instead of b, whose page is not open
    assert [presence.here(visit) for visit in "abc"] == [True, False, True]
    presence.seen("c", 1)
    assert not presence.seen("d", 1, "here")
    with pytest.raises(RissoleError, match="no room"):
        kept.add("d", "d", "d", 1, "here")
    kept.sweep()
    with pytest.raises(RissoleError, match="no room"):
        kept.add("a", "a", "a", 7, "here")  # half of the room is less than what it would have
    kept.add("e", "e", "e", 10, "there")
    kept.add("a", "a", "a", 6, "here")
    assert [kept.get(key) for key in "abce"] == ["a", None, "c", "e"]
    presence.left("a")
    assert not presence.seen("a", -1)  # its line ends after it has said goodbye
    assert not presence.here("a")


def test_sizes_are_those_of_what_lies_in_memory():
    image, row, rows = Image.new("RGB", (100, 50)), torch.zeros(1000)[:10], np.zeros((50, 20))
    for thing, size in [(image, 20_000), (row, 4000), (rows[:1], 8000), ("a" * 5000, 5000)]:
        assert size < held(thing) < size + 2000
        assert held([thing, {"a": thing}]) < held(thing) + 1000  # each once
    picture = Query(image=image)
    assert held(Visit(query=picture)) > held(picture) > held(image)


# ---- files ---------------------------------------------------------------------------------------


@pytest.fixture
def disk(presence, clock, tmp_path, monkeypatch):
    monkeypatch.setattr(disks, "private_folder", lambda: tmp_path)
    return Disk(presence, "no room", clock)


def sent(disk, name: str, data: bytes = b"a"):
    path = disk.new_upload(name, len(data))
    path.write_bytes(data)
    return path


def test_the_same_file_of_two_visits_lies_twice(disk):
    first, second = sent(disk, "a.png"), sent(disk, "a.png")
    disk.read_once(first)
    assert (first.exists(), second.exists()) == (False, True)


def test_a_made_file_that_is_handed_in_stays(disk):
    made = disk.write(b"a", "a.png", None)
    disk.read_once(made)
    assert made.read_bytes() == b"a"


@pytest.mark.parametrize(
    "name", ["../../a", "..", "", "a/b", "\0", "x" * 300, "a" * 9 + "\u00e4" * 200, "\ud800"]
)
def test_a_file_lies_in_its_folder_whatever_its_name(disk, tmp_path, name):
    for path in (sent(disk, name), disk.write(b"a", name, "../..")):
        assert path.resolve().is_relative_to(tmp_path)
        assert len(path.name.encode()) <= disks.NAME_BYTES


def test_files_go_when_they_are_old_or_their_page_is_closed(disk, presence, clock):
    presence.seen("a", 1)
    upload, mine, anybodys = sent(disk, "u"), *(disk.write(b"m", "m", who) for who in ("a", None))
    clock.now += disks.SENT_AGE + 1
    disk.sweep()
    assert [path.exists() for path in (upload, mine, anybodys)] == [False, True, False]
    clock.now += disks.MADE_AGE
    disk.sweep()
    assert not mine.exists()
    again = disk.write(b"m", "m", "a")
    disk.forget("a")
    assert not again.exists()


def test_files_keep_within_bounds(disk, presence, monkeypatch):
    monkeypatch.setattr(disks, "EACH_BYTES", 10)
    monkeypatch.setattr(disks, "MADE_BYTES", 24)
    monkeypatch.setattr(disks, "SENT_BYTES", 24)
    for visit in "abc":
        presence.seen(visit, 1)
    first, *_ = [disk.write(bytes(4), "x", "a") for _ in range(3)]
    assert not first.exists()  # it made way for the third of the same visit
    with pytest.raises(RissoleError, match="too much"):
        disk.write(bytes(11), "x", "a")
    assert sum(file.size for file in disk.files(MADE)) == 8  # nothing made way for what never fits
    others = [disk.write(bytes(8), "x", visit) for visit in "bc"]
    programs = disk.write(bytes(0), "x", None)
    with pytest.raises(RissoleError, match="no room"):
        disk.write(bytes(1), "x", None)
    presence.left("b")
    disk.write(bytes(2), "x", "c")
    assert [path.exists() for path in (*others, programs)] == [False, True, True]
    sent(disk, "u", bytes(20))
    with pytest.raises(RissoleError, match="no room"):
        disk.new_upload("u", 5)


def test_one_address_has_a_share_of_the_disk(disk, presence, monkeypatch):
    monkeypatch.setattr(disks, "EACH_BYTES", 10)
    monkeypatch.setattr(disks, "MADE_BYTES", 24)
    presence.share = 0.5
    for visit in "ab":
        presence.seen(visit, 1)
    mine = disk.write(bytes(8), "x", "a", "here")
    programs = disk.write(bytes(4), "x", None, "here")
    theirs = disk.write(bytes(6), "x", None, "there")
    disk.write(bytes(3), "x", "b", "here")  # programs of the same address make way
    assert [path.exists() for path in (mine, programs, theirs)] == [True, False, True]
    with pytest.raises(RissoleError, match="no room"):
        disk.write(bytes(2), "x", "b", "here")
    assert theirs.exists()


def test_sweeping_goes_on_while_files_come_and_go(disk, clock):
    """Many threads write and sweep at once: nothing fails, and nothing old stays."""
    clock.now += 2 * disks.SENT_AGE
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(sent, disk, "u") for _ in range(200)]
        jobs += [pool.submit(disk.sweep) for _ in range(50)]
        lost = [job.exception() for job in jobs]
    assert {type(one) for one in lost} <= {type(None), FileNotFoundError}
    disk.sweep()
    assert list(disk.files(SENT)) == [] == list(disk.files(MADE))


def test_the_first_file_of_a_visit_is_written_while_others_are_swept(disk, presence):
    """What is known of a visit is not swept away before its folder is there."""
    for number in range(60):  # so that looking for room takes a while
        disk.write(b"a", "a", f"before {number}")
    names = [f"visit {number}" for number in range(40)]
    for name in names:
        presence.seen(name, 1)
    ended = threading.Event()

    def sweep() -> None:
        while not ended.is_set():
            disk.sweep()

    with ThreadPoolExecutor(2) as pool:
        sweeping = pool.submit(sweep)
        paths = pool.map(lambda name: disk.write(b"m", "m", name, "here"), names)
        try:
            assert all(path.exists() for path in paths)
        finally:
            ended.set()
        sweeping.result()
    owners = {file.path: disk._owners[file.owner] for file in disk.files(MADE)}
    assert set(names) <= set(owners.values())


def test_a_folder_that_goes_while_one_looks_is_passed_over(disk):
    for name in "abc":
        sent(disk, f"{name}.png")
    found = disk.files(SENT)
    first = next(found).path.parent
    for folder in first.parent.iterdir():
        if folder != first:
            shutil.rmtree(folder)
    assert list(found) == []
