# SPDX-License-Identifier: MIT
"""The command line of `bag_benchmark`: options that do not go together are refused by name."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ..player import positive
from ..replay_options import add_arguments

MODES = {
    "ros": "through a live node: the bag as recorded, or at even rates (--hz)",
    "in_process": "engine and monitor here, without transport",
    "search": "the highest rate that a live node sustains",
    "overload": "a live node at --factor times that rate",
    "outputs": "a live node without and with subscribers on every output",
}
# option: the modes that know it; others refuse it
OF_MODES = {
    "hz": ("ros", "outputs"),
    "probes": ("search", "overload"),
    "max_loss": ("search", "overload"),
    "factor": ("overload",),
    "sustained": ("overload",),
    "rounds": ("outputs",),
    "against": ("in_process",),
    "no_quality": ("ros",),
    "attach": ("ros", "search", "overload", "outputs"),
}
# of a detector that is started here, not of one that is attached to
OF_OURS = ("checkpoint", "backbone", "device", "precision", "short_side", "height", "pitch", "param",
           "domain_id")  # fmt: skip
SECONDS, PROBES, LOSS, FACTOR, ROUNDS = 10.0, 12, 0.01, 2.0, 3
OUTPUT = Path("out/benchmark")


def arguments(description: str | None, argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check; ends the process with status 2 for what does not go together."""
    parser = argparse.ArgumentParser(
        prog="bag_benchmark", description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bag", type=Path, nargs="?", help="rosbag2 folder, or an .mcap or .db3 file")
    parser.add_argument(
        "--mode", choices=MODES, default="ros", help="\n".join(f"{k}: {v}" for k, v in MODES.items())
    )
    parser.add_argument(
        "--compare",
        type=Path,
        nargs=2,
        metavar=("A.json", "B.json"),
        help="the ratios of two summaries, instead of measuring",
    )
    add_arguments(parser, several=True)
    load = parser.add_argument_group("load")
    load.add_argument(
        "--hz",
        type=positive,
        nargs="+",
        help="even rates of each camera instead of the recorded times (ros, outputs)",
    )
    load.add_argument(
        "--seconds",
        type=positive,
        help=f"length of each run or probe (default {SECONDS:g}; in_process: once through the bag)",
    )
    load.add_argument("--probes", type=int, help=f"at most so many, in a search (default {PROBES})")
    load.add_argument("--max-loss", type=float, help=f"share of frames that may be lost (default {LOSS:g})")
    load.add_argument("--factor", type=positive, help=f"of overload (default {FACTOR:g})")
    load.add_argument(
        "--sustained", type=positive, metavar="HZ", help="known rate: overload without a search"
    )
    load.add_argument("--rounds", type=int, help=f"of outputs: how often each way (default {ROUNDS})")
    load.add_argument(
        "--against", metavar="CHECKPOINT", help="a second checkpoint, frame by frame in turns (in_process)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help=f"folder for summary.json, report.html, the log (default {OUTPUT}); with --compare for "
        "compare.json and compare.html (default: text alone)",
    )
    parser.add_argument(
        "--no-quality",
        action="store_true",
        help="do not subscribe to mask and heatmap: latency as with alerts alone",
    )
    parser.add_argument(
        "--attach",
        action="store_true",
        help="use a detector that runs already, in this ROS domain; it must "
        "listen to the bag's topics, and nothing else may publish on them",
    )
    parser.add_argument(
        "--node", type=_node, default="/detector", help="full name of the detector (default /detector)"
    )
    args = parser.parse_args(argv)
    if problem := _problem(args) or _not_ours(args, parser):
        parser.error(problem)
    if args.output is None and not args.compare:
        args.output = OUTPUT
    args.even = args.mode in ("search", "overload", "outputs") or bool(args.hz)
    for name, default in (("probes", PROBES), ("max_loss", LOSS), ("factor", FACTOR), ("rounds", ROUNDS)):
        if getattr(args, name) is None:
            setattr(args, name, default)
    if args.even and args.seconds is None:
        args.seconds = SECONDS
    return args


def _node(text: str) -> str:
    name = text if text.startswith("/") else f"/{text}"
    if not re.fullmatch(r"(/[A-Za-z_]\w*)+", name, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a node, e.g. /robot/detector")
    return name


def _not_ours(args: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    given = (name for name in OF_OURS if getattr(args, name) != parser.get_default(name))
    if args.attach and (name := next(given, None)):
        return f"--{name.replace('_', '-')} is of a detector that is started here, not of --attach"
    return ""


def _problem(args: argparse.Namespace) -> str:
    if args.compare:
        return f"--compare measures nothing: leave {args.bag} out" if args.bag else ""
    if args.bag is None:
        return "name a bag, or two summaries with --compare"
    for name, modes in OF_MODES.items():
        if getattr(args, name) not in (None, False) and args.mode not in modes:
            return f"--{name.replace('_', '-')} is of --mode {', '.join(modes)}, not of {args.mode}"
    if args.mode == "outputs" and args.hz and len(args.hz) > 1:
        return f"--mode outputs takes one rate; --hz has {len(args.hz)}"
    if args.mode == "ros" and args.seconds is not None and not args.hz:
        return "--seconds needs --hz: without it the bag is replayed once, as it was recorded"
    if args.rate != 1.0 and (args.mode != "ros" or args.hz):
        return f"--rate {args.rate:g} is for a replay as recorded: not for --hz, nor for --mode {args.mode}"
    for name, low in (("probes", 1), ("rounds", 1)):
        if (value := getattr(args, name)) is not None and value < low:
            return f"--{name} is {value}: give at least {low}"
    if args.max_loss is not None and not 0 <= args.max_loss < 1:
        return f"--max-loss is {args.max_loss:g}: give a share in [0, 1)"
    return ""
