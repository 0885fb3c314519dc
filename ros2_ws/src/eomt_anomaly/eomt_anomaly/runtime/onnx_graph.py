# SPDX-License-Identifier: MIT
"""The network, with its pre- and post-processing where wanted, as one ONNX graph."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model import EomtExt
from .network import prepare
from .postprocess import fuse, publish
from .preprocess import Normalizer

OPSET = 18
LOGITS = ("mask_logits", "class_logits", "anomaly_logits")
MAPS = ("class_map", "anomaly", "finite")
LIMIT = 2**31  # bytes; protobuf's, for one file


class ExportGraph(nn.Module):
    """EoMT-EXT as the engine uses it, batch first.

    Args:
        model: fp32, on the CPU.
        preprocess: take uint8 [B,h,w,3] RGB instead of normalised float32 [B,3,h,w].
        output_size: (H, W) px: give class_map uint8 [B,H,W], anomaly float32 [B,H,W] in [0,1) and finite bool
            [B] (no logit is NaN or infinite); None: mask, class and anomaly logits as `EomtExt` gives them.
        score: name in `SCORES` of the anomaly map.
    """

    def __init__(
        self, model: EomtExt, preprocess: bool, output_size: tuple[int, int] | None, score: str
    ) -> None:
        super().__init__()
        self.model, self.output_size, self.score = model, output_size, score
        config = model.config
        self.normalize = (
            Normalizer(config.pixel_mean, config.pixel_std, torch.float32) if preprocess else None
        )

    @property
    def output_names(self) -> tuple[str, ...]:
        return MAPS if self.output_size else LOGITS

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Floats before and after: TensorRT converts uint8 from and to nothing else.
        pixels = self.normalize(image.float().permute(0, 3, 1, 2)) if self.normalize else image  # [B,3,h,w]
        output = self.model(pixels)
        logits = (output.mask_logits, output.class_logits, output.anomaly_logits)
        if self.output_size is None:
            return logits
        finite = torch.stack([x.flatten(1).sum(1) for x in logits]).isfinite().all(0)  # [B]
        maps = fuse(output, self.score)  # [B,C+1,h',w']
        maps = F.interpolate(maps, self.output_size, mode="bilinear", align_corners=False)  # [B,C+1,H,W]
        class_map = maps[:, :-1].argmax(1).float().to(torch.uint8)
        return class_map, publish(self.score, maps[:, -1].clone()), finite


def write_graph(graph: ExportGraph, size: tuple[int, int], path: Path) -> None:
    """Write `graph` for inputs of `size` (height, width in px) and any batch to one ONNX file.

    LayerScale is folded and the position embeddings are those of the size. Raises ValueError where the
    weights exceed the 2 GiB of one file.
    """
    bytes_ = sum(p.numel() * p.element_size() for p in graph.parameters())
    if bytes_ >= LIMIT:
        raise ValueError(f"the weights take {bytes_ / 2**30:.1f} GiB in fp32: one ONNX file holds 2 GiB")
    model = prepare(graph.model, "fp32", torch.device("cpu"))
    patch = model.config.patch_size
    positions = model.backbone.positions((size[0] // patch, size[1] // patch)).clone()
    model.backbone.positions = lambda grid: positions  # type: ignore[method-assign]
    whole = ExportGraph(model, graph.normalize is not None, graph.output_size, graph.score).eval()
    example = torch.zeros(2, *size, 3, dtype=torch.uint8) if graph.normalize else torch.zeros(2, 3, *size)
    program = torch.onnx.export(
        whole,
        (example,),
        dynamo=True,
        input_names=["image"],
        output_names=list(graph.output_names),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None  # of dynamo
    proto = program.model_proto
    for item in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.initializer,
                 *proto.graph.input, *proto.graph.output):  # fmt: skip
        item.ClearField("metadata_props")  # stack traces: paths of this machine
    if graph.normalize:
        _cast_first(proto.graph)
    onnx.checker.check_model(proto)
    onnx.save(proto, path)


def _cast_first(graph: onnx.GraphProto) -> None:
    """Let all that reads the uint8 image read its cast to float: TensorRT feeds uint8 to no other layer.

    The exporter takes the batch's size from the image itself.
    """
    (cast,) = [node.output[0] for node in graph.node if node.op_type == "Cast" and "image" in node.input]
    graph.node.sort(key=lambda node: cast not in node.output)
    for node in graph.node[1:]:
        node.input[:] = [cast if name == "image" else name for name in node.input]
