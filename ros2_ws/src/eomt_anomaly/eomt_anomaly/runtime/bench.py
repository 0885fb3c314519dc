# SPDX-License-Identifier: MIT
"""`python -m eomt_anomaly.runtime.bench`: our stages beside plain ones, interleaved in one run, as ratios.

Weights are random: speed only. Times are this process's CPU time (all its threads), so that other processes
disturb less; only the ratios mean something on another machine. Peers: the naive post-processing (every mask
upsampled to the image) and, where `transformers` is installed, the pre- and post-processing of its
`EomtImageProcessor`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import cv2
import numpy as np
import torch

from ..model import EomtExt, EomtExtConfig
from .network import DTYPES, choose_precision, prepare
from .postprocess import exact, finish, fuse
from .preprocess import Normalizer, network_input, plan


def interleave(stages: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU ms of each stage; every round runs each once, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(rounds + 1):
        for name, stage in stages.items():
            start = time.process_time()
            stage()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def peer_stages(image: np.ndarray, side: int, queries: int, classes: int) -> dict[str, Callable[[], object]]:
    """HF's processor on the same image, two square windows of `side`; empty without transformers."""
    try:
        from transformers import EomtImageProcessor
    except ImportError:
        return {}
    processor = EomtImageProcessor(size={"shortest_edge": side, "longest_edge": None}, do_split_image=True)
    height, width = image.shape[:2]
    inputs = processor(image, return_tensors="pt")
    offsets, count = inputs["patch_offsets"], len(inputs["pixel_values"])
    output = SimpleNamespace(
        masks_queries_logits=torch.randn(count, queries, side // 4, side // 4),
        class_queries_logits=torch.randn(count, queries, classes + 1), patch_offsets=offsets)
    return {"peer preprocess": lambda: processor(image, return_tensors="pt"),
            "peer postprocess": lambda: processor.post_process_semantic_segmentation(
                output, target_sizes=[(height, width)], size={"shortest_edge": side, "longest_edge": None})}


@torch.inference_mode()
def run(size: str, height: int, width: int, side: int, queries: int, rounds: int) -> dict[str, object]:
    """Medians in ms and ratios for one configuration."""
    torch.manual_seed(0)
    model = EomtExt(EomtExtConfig.preset(size, num_queries=queries, image_size=side)).eval()
    cpu, classes = torch.device("cpu"), model.config.num_classes
    p = plan(height, width, side, model.config.patch_size)
    fast = choose_precision("auto", cpu)
    networks = {name: prepare(model, name, cpu) for name in dict.fromkeys((fast, "fp32"))}
    normalize = {n: Normalizer(model.config.pixel_mean, model.config.pixel_std, DTYPES[n]) for n in networks}
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    pixels = {name: network_input(image, p, normalize[name]) for name in networks}
    output = networks["fp32"](pixels["fp32"])

    def post() -> object:
        return finish(fuse(_copy(output), "eomt_ext").numpy(), p, "eomt_ext")

    stages: dict[str, Callable[[], object]] = {
        "preprocess": lambda: network_input(image, p, normalize[fast]),
        "postprocess": post,
        "postprocess naive": lambda: exact(_copy(output), p, "eomt_ext"),
        **{f"forward {name}": lambda name=name: networks[name](pixels[name]) for name in networks},
        **peer_stages(image, side, queries, classes)}
    ms = interleave(stages, rounds)
    ratios = {"naive / postprocess": ms["postprocess naive"] / ms["postprocess"],
              f"forward fp32 / {fast}": ms["forward fp32"] / ms[f"forward {fast}"]}
    for stage in ("preprocess", "postprocess"):
        if f"peer {stage}" in ms:
            ratios[f"peer / {stage}"] = ms[f"peer {stage}"] / ms[stage]
    return {"model": size, "image": [height, width], "network input": list(p.window), "queries": queries,
            "rounds": rounds, "cpu_ms": ms, "ratios": ratios,
            "machine": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(), "torch": torch.__version__, "opencv": cv2.__version__}


def _copy(output: object) -> object:
    """`fuse` overwrites mask logits; the copy is part of the time of each way that gets one."""
    return type(output)(output.mask_logits.clone(), output.class_logits, output.anomaly_logits)


def main() -> None:
    """Print the table and, with --json, store it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", choices=("tiny", "small", "base", "large"))
    parser.add_argument("--image", type=int, nargs=2, default=(1024, 2048), metavar=("H", "W"))
    parser.add_argument("--side", type=int, default=476, help="short side of the network's input, px")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of torch and OpenCV")
    parser.add_argument("--json", help="file to write")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
        cv2.setNumThreads(options.threads)
    result = run(options.model, *options.image, options.side, options.queries, options.rounds)
    print(f"{options.model}, image {options.image[0]}x{options.image[1]}, input {result['network input']}, "
          f"{options.queries} queries, medians of {options.rounds} rounds, CPU ms")
    for name, value in result["cpu_ms"].items():
        print(f"  {name:20} {value:9.1f}")
    for name, value in result["ratios"].items():
        print(f"  {name:28} {value:6.2f}x")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
