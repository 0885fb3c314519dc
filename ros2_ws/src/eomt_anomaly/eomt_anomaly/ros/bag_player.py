# SPDX-License-Identifier: MIT
"""Replays any rosbag2 where `ros2 bag` is absent: `bag_player BAG [--rate R] [--loop] [--clock] …`."""

from __future__ import annotations

import argparse
import signal
import sys
import time

import rclpy
from rclpy.duration import Duration
from rclpy.signals import SignalHandlerOptions

from .bag_io import Bag, BagError, Topic
from .player import Player, has_header, message_class, positive

PROGRESS_S = 1.0  # seconds between two lines of progress


def arguments(own: list[str]) -> argparse.Namespace:
    """The command line, without what follows --ros-args."""
    parser = argparse.ArgumentParser(prog="bag_player", description=__doc__.split(":")[0] + ".")
    parser.add_argument("bag", help="rosbag2 folder, or an .mcap or .db3 file")
    parser.add_argument("--rate", type=positive, default=1.0, help="times the recorded speed (default 1)")
    parser.add_argument("--loop", action="store_true", help="begin again at the end, until interrupted")
    parser.add_argument(
        "--start-offset", type=_not_negative, default=0.0, metavar="S", help="skip the first S seconds"
    )
    parser.add_argument(
        "--clock", action="store_true", help="publish /clock with the bag's time, for use_sim_time"
    )
    parser.add_argument(
        "--restamp",
        action="store_true",
        help="give messages with a header the present time as stamp, as a live camera would",
    )
    parser.add_argument(
        "--topics", nargs="+", metavar="TOPIC", help="only these (default: all whose types are installed)"
    )
    parser.add_argument(
        "--exclude-topics",
        nargs="+",
        default=[],
        metavar="TOPIC",
        help="not these; with a / at its end: none that begins so (/clock is left out with --clock)",
    )
    parser.add_argument(
        "--remap", nargs="+", default=[], metavar="FROM:=TO", help="publish under another name"
    )
    parser.add_argument(
        "--wait-for-subscribers",
        type=_not_negative,
        default=0.0,
        metavar="S",
        help="wait up to S seconds until each topic of --topics has a subscriber, else give up",
    )
    parser.add_argument(
        "--buffer-mb", type=positive, default=1024.0, help="read ahead at most this much (default 1024)"
    )
    args = parser.parse_args(own)
    args.remap = dict(_pair(parser, text) for text in args.remap)
    if args.clock and args.restamp:
        parser.error(
            "--clock and --restamp exclude each other: stamps are either the bag's time or the present"
        )
    return args


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 at the end or when interrupted, 1 for a bag that cannot be played."""
    argv = sys.argv[1:] if argv is None else argv
    at = argv.index("--ros-args") if "--ros-args" in argv else len(argv)
    args = arguments(argv[:at])  # kept apart: rclpy would take FROM:=TO for a rule of its own
    rclpy.init(args=argv[at:], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("bag_player")
    try:
        with Bag(args.bag) as bag:
            return _play(node, bag, args)
    except BagError as error:
        print(f"bag_player: {error}", file=sys.stderr)
        return 1
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _play(node, bag: Bag, args: argparse.Namespace) -> int:
    topics = chosen(bag, args)
    for name in args.remap:
        bag.require(name)
    stamped = [name for name in topics if args.restamp and has_header(bag.require(name).msgtype)]
    player = Player(node, bag, topics, args.remap, stamped, args.clock, round(args.buffer_mb * 1e6))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: player.stopped.set())
    print(f"{args.bag}: {bag.duration_s:.1f} s at {args.rate:g}x", flush=True)
    print(bag.listing(bag.topics[name] for name in topics), flush=True)
    if not _wait_for_subscribers(player, args.wait_for_subscribers):
        return 0 if player.stopped.is_set() else 1
    progress = _Progress(bag.duration_s)
    while not player.stopped.is_set():
        before = progress.count
        player.play(args.rate, args.start_offset, progress.sent)
        if progress.count == before and not player.stopped.is_set():
            raise BagError(f"{args.bag}: no message is left after --start-offset {args.start_offset:g} s")
        if not args.loop:
            break
    acknowledged = all(
        publisher.wait_for_all_acked(Duration(seconds=2)) for publisher in player.publishers.values()
    )
    print(
        f"{'interrupted' if player.stopped.is_set() else 'done'}: {progress.count} messages"
        + ("" if acknowledged else "; not every subscriber has confirmed them"),
        flush=True,
    )
    return 0


def chosen(bag: Bag, args: argparse.Namespace) -> list[str]:
    """The topics to play. Raises BagError if there are none."""
    left_out = args.exclude_topics + ["/clock"] * args.clock   # two clocks would make time jump
    names = [
        name
        for name in args.topics or _playable(bag)
        if not any(name == one or (one.endswith("/") and name.startswith(one)) for one in left_out)
    ]
    if not names:
        raise BagError(f"{bag.path} has no topic that can be played here")
    return names


def _playable(bag: Bag) -> list[str]:
    names: list[str] = []
    left_out: dict[str, list[Topic]] = {}
    for topic in bag.topics.values():
        try:
            message_class(topic.msgtype)
            names.append(topic.name)
        except BagError:
            why = "their message types are not installed" if topic.msgtype else "recorded with several types"
            left_out.setdefault(why, []).append(topic)
    for why, topics in left_out.items():
        print(f"left out, as {why}:\n{bag.listing(topics)}", file=sys.stderr)
    return names


def _wait_for_subscribers(player: Player, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while seconds and (missing := player.missing_subscribers()):
        if player.stopped.wait(0.05):
            return False
        if time.monotonic() > end:
            print(
                f"bag_player: after {seconds:g} s nobody subscribes to {', '.join(missing)}", file=sys.stderr
            )
            return False
    return True


class _Progress:
    """A line a second: how far the replay is."""

    def __init__(self, duration_s: float):
        self.count, self._duration, self._next = 0, max(duration_s, 1e-9), 0.0
        self._first: int | None = None

    def sent(self, sent) -> None:
        self.count += 1
        self._first = sent.record.time_ns if self._first is None else min(self._first, sent.record.time_ns)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_S
            at = (sent.record.time_ns - self._first) / 1e9
            print(f"  {at:6.1f} s of {self._duration:.1f} s, {self.count} messages", flush=True)


def _pair(parser: argparse.ArgumentParser, text: str) -> tuple[str, str]:
    source, mark, target = text.partition(":=")
    if not (source and mark and target):
        parser.error(f"--remap {text}: write FROM:=TO")
    return source, target


def _not_negative(text: str) -> float:
    if not 0 <= (value := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of 0 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
