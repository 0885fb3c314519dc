# SPDX-License-Identifier: MIT
"""The mailbox: newest frame only, fair, and every frame accounted for."""

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from eomt_anomaly.ros.mailbox import Drop, Frame, Mailbox

CAMERAS = ("a", "b", "c")


def frame(camera, number=0):
    return Frame(camera, number, received=0.0)


def books(mailbox):
    """Check the account of every camera; return received, judged, dropped and pending over all."""
    total = [0, 0, 0, 0]
    for camera in CAMERAS:
        counts = mailbox.counts(camera)
        dropped = sum(counts.dropped.values())
        assert counts.received == counts.judged + dropped + counts.pending
        total = [a + b for a, b in zip(total, (counts.received, counts.judged, dropped, counts.pending))]
    return total


def test_the_newest_frame_wins_and_the_older_one_is_counted():
    mailbox = Mailbox(CAMERAS)
    for number in range(5):
        mailbox.put(frame("a", number))
    assert [f.message for f in mailbox.take(4, 0.0, 0.0)] == [4]
    counts = mailbox.counts("a")
    assert counts.dropped == {"overwritten": 4} and counts.pending == 1


ACTIONS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(CAMERAS)),
    st.tuples(st.just("refuse"), st.sampled_from(CAMERAS), st.sampled_from(list(Drop))),
    st.tuples(st.just("take"), st.integers(1, 4)),
    st.tuples(st.just("settle"), st.one_of(st.none(), st.sampled_from(list(Drop)))),
    st.tuples(st.just("clear"), st.sampled_from(list(Drop))))


@given(st.lists(ACTIONS, max_size=60))
def test_in_is_out_plus_dropped_whatever_happens(actions):
    mailbox, taken = Mailbox(CAMERAS), []
    for name, *args in actions:
        if name == "put":
            mailbox.put(frame(args[0]))
        elif name == "take":
            taken += mailbox.take(args[0], 0.0, 0.0)
        elif name == "settle" and taken:
            mailbox.settle(taken.pop(), args[0])
        elif name in ("refuse", "clear"):
            getattr(mailbox, name)(*args)
        books(mailbox)
    while taken:
        mailbox.settle(taken.pop())
    mailbox.clear(Drop.INACTIVE)
    assert books(mailbox)[3] == 0


def test_no_camera_starves_when_batches_are_small():
    mailbox, served = Mailbox(CAMERAS), dict.fromkeys(CAMERAS, 0)
    for _ in range(30):
        for camera in CAMERAS:
            mailbox.put(frame(camera))
        for taken in mailbox.take(1, 0.0, 0.0):
            served[taken.camera] += 1
            mailbox.settle(taken)
    assert set(served.values()) == {10}


def test_a_batch_waits_for_other_cameras_but_not_longer_than_the_window():
    mailbox = Mailbox(CAMERAS)
    mailbox.put(frame("a"))
    late = threading.Timer(0.05, lambda: mailbox.put(frame("b")))
    late.start()
    began = time.monotonic()
    assert {f.camera for f in mailbox.take(4, 0.3, 0.0)} == {"a", "b"}
    assert 0.25 < time.monotonic() - began < 2.0  # a busy machine may wake it late


def test_a_full_batch_does_not_wait():
    mailbox = Mailbox(CAMERAS)
    for camera in CAMERAS:
        mailbox.put(frame(camera))
    began = time.monotonic()
    assert len(mailbox.take(8, 5.0, 0.0)) == 3
    assert time.monotonic() - began < 1.0


def test_nothing_comes_of_an_empty_mailbox():
    assert Mailbox(CAMERAS).take(4, 0.0, 0.01) == []
