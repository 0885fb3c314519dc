# SPDX-License-Identifier: MIT
"""The engine beside its peers, on the same weights and the same image, in turns in one run.

  python -m eomt_anomaly.runtime.bench                         # ViT-S with random weights, 1024x2048 px
  python -m eomt_anomaly.runtime.bench --checkpoint DIR --image 720 1280 --side 476
  python -m eomt_anomaly.runtime.bench --device cuda --model large --image 640 640 --side 640

Prints a table; leaves bench.json and bench.html in --output. What the numbers mean: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shlex
import sys
from pathlib import Path

import torch

from ..report.engine_page import engine_page  # this entry point alone: the runtime needs no report
from ..report.origin import host, packages, write_json
from .benchmark import comparison, contestants, text
from .benchmark.setting import Setting

PACKAGES = (
    "torch",
    "numpy",
    "opencv-python-headless",
    "transformers",
    "torchvision",
    "onnx",
    "onnxruntime",
    "openvino",
)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check; ends the process with a message where something makes no sense."""
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--model",
        default="small",
        choices=("tiny", "small", "base", "large"),
        help="size, with random weights",
    )
    add("--checkpoint", help="a checkpoint folder instead")
    add("--backbone", help="of the checkpoint: file or folder of its frozen backbone, if in no usual place")
    add("--image", type=_positive, nargs=2, default=(1024, 2048), metavar=("H", "W"), help="px")
    add("--side", type=_positive, default=512, help="of the square windows that the network sees, px")
    add("--patch", type=_positive, default=16, help="px; of random weights")
    add("--queries", type=_positive, default=100, help="of random weights")
    add("--cameras", type=_positive, default=1, help="images at a time")
    add("--device", default="cpu", help="cpu, cuda or cuda:N")
    add(
        "--ours",
        nargs="+",
        default=["auto", "fp32"],
        metavar="WAY",
        help=f"auto, {', '.join(contestants.OURS)}; the ratios are to the first",
    )
    add(
        "--peers",
        nargs="*",
        default=list(contestants.PEERS),
        metavar="PEER",
        help=f"default: {' '.join(contestants.PEERS)}",
    )
    add("--rounds", type=_positive, default=7, help="each runs every contestant once")
    add("--warmup", type=_positive, default=1, help="rounds before, which do not count")
    add("--frames", type=_positive, default=200, help="of each figure of the CUDA pipeline")
    add("--threads", type=_positive, help="for all contestants; default: each one's own choice")
    add("--seed", type=int, default=0, help="of weights and image")
    add("--no-memory", action="store_true", help="do not measure memory (a process for each contestant)")
    add("--no-stages", action="store_true", help="do not time pre- and post-processing on their own")
    add("--output", type=Path, default=Path("out/bench"), help="folder for bench.json and bench.html")
    args = parser.parse_args(argv)
    try:
        device = torch.device(args.device)
    except RuntimeError:
        parser.error(f"--device {args.device}: give cpu, cuda or cuda:N")
    if device.type not in ("cpu", "cuda"):
        parser.error(f"--device {args.device}: give cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        parser.error(
            f"--device {args.device}: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA "
            "device(s), so no figure of a GPU can be had here; run it where there is one"
        )
    return args


def main(argv: list[str] | None = None) -> int:
    """Measure, print, store. 0: done; 1: it could not be measured, and the message says why."""
    args = arguments(argv)
    setting = Setting(
        args.model,
        args.checkpoint,
        args.backbone,
        tuple(args.image),
        args.side,
        args.patch,
        args.queries,
        args.cameras,
        args.device,
        args.threads,
        args.seed,
    )
    machine = _host(args.device)  # before this run is itself the load
    try:
        wanted = contestants.names(setting, args.ours, args.peers)
        result = comparison.compare(
            setting,
            wanted,
            args.rounds,
            warmup=args.warmup,
            weigh=not args.no_memory,
            with_stages=not args.no_stages,
            frames=args.frames,
            say=lambda line: print(line, file=sys.stderr),
        )
    except (ValueError, FileNotFoundError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    result |= {
        "command": shlex.join(["python", "-m", "eomt_anomaly.runtime.bench", *(argv or sys.argv[1:])]),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "host": machine,
        "versions": {"python": platform.python_version(), **packages(PACKAGES)},
    }
    print(text.lines(result))
    args.output.mkdir(parents=True, exist_ok=True)
    write_json(args.output / "bench.json", result)
    (args.output / "bench.html").write_text(engine_page(result), encoding="utf-8")
    print(f"\nwritten: {args.output / 'bench.json'}, {args.output / 'bench.html'}")
    return 0


def _host(device: str) -> dict[str, object]:
    """The machine, what torch finds in its processor, and how busy it was."""
    return {
        **host(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "amx": torch.cpu._is_amx_tile_supported(),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "gpu": torch.cuda.get_device_name(device) if device != "cpu" else None,
        "load_average": [round(x, 2) for x in os.getloadavg()],
    }


def _positive(text_: str) -> int:
    value = int(text_)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive integer")
    return value


if __name__ == "__main__":
    sys.exit(main())
