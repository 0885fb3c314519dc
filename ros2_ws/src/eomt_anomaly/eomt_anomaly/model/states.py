# SPDX-License-Identifier: MIT
"""Strictness about weights, in one place: nothing is ever loaded half."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Coverage:
    """What an adapter did: source tensors `used` and `unused`; tensors of ours left random (`missing`)."""

    used: tuple[str, ...]
    unused: tuple[str, ...]
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"{len(self.used)} tensors used, "
            f"{len(self.unused)} not needed ({', '.join(self.unused) or 'none'}), "
            f"not covered and randomly initialised: {', '.join(self.missing) or 'none'}"
        )


def check_state(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], what: str = "weights") -> None:
    """Raise ValueError unless `state` has exactly the keys and shapes of `expected` and only finite values.

    The message starts with `what` and names the keys. Tensors of `expected` may live on the meta device.
    """
    missing, extra = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing or extra:
        raise ValueError(f"{what} do not fit: missing {_some(missing)}; not known {_some(extra)}")
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise ValueError(
                f"{what} do not fit: {key} has shape {list(value.shape)}, "
                f"expected {list(expected[key].shape)}"
            )
        if value.is_floating_point() != expected[key].is_floating_point():
            raise ValueError(f"{what} do not fit: {key} is {value.dtype}, expected {expected[key].dtype}")
        if not value.isfinite().all():
            raise ValueError(f"{what} hold NaN or infinity in {key}")


def _some(keys: Iterable[str], limit: int = 5) -> str:
    """`a, b, c and 4 more`, or `none`."""
    names = sorted(keys)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) or "none") + more
