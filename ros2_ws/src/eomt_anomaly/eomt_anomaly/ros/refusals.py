# SPDX-License-Identifier: MIT
"""What an exception on a frame's way means: how the frame is counted, and whether the engine must change."""

from __future__ import annotations

from ..alerts import Reason
from .mailbox import Drop

# How libraries say it, in lower case: CUDA; cuBLAS and cuDNN; cuDNN 9; torch where a convolution's workspace
# does not fit, where cuDNN's attention fails in the driver, and where NVML does not answer for the message
# (Jetson, pytorch#185240); torch on a CPU and ONNX Runtime; OpenCV; C++.
OUT_OF_MEMORY = ("out of memory", "status_alloc_failed", "allocation_failed", "unable to find an engine",
                 "mha_graph.execute", "nvml_success == ", "allocate memory", "not enough memory",
                 "insufficient memory", "bad_alloc")


class Refused(Exception):
    """A frame that must not be judged: how it is counted, what the alert says, and the text for people."""

    def __init__(self, drop: Drop, reason: Reason, text: str):
        super().__init__(text)
        self.drop, self.reason = drop, reason


def explain(error: Exception) -> Refused:
    """Sort an exception from the engine (or from anywhere else on a frame's way) into a refusal."""
    name = type(error).__name__
    if name == "InvalidImage":
        return Refused(Drop.INVALID, Reason.INVALID_INPUT, f"the engine refused the image: {error}")
    if name == "NonFiniteOutput":
        return Refused(Drop.ERROR, Reason.INVALID_OUTPUT, f"the network's output is not finite: {error}")
    return Refused(Drop.ERROR, Reason.INFERENCE_ERROR, f"inference failed: {name}: {error}")


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, of the GPU or of the CPU."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "OutOfMemory") or \
        any(words in text for words in OUT_OF_MEMORY)


def is_fatal(error: Exception) -> bool:
    """Whether the GPU fails for good: after such an error every later call of this process fails as well."""
    return type(error).__name__ == "AcceleratorError" and not is_out_of_memory(error)
