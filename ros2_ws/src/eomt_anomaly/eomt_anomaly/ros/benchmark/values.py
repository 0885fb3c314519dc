# SPDX-License-Identifier: MIT
"""The node's parameters without a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from ..accounts import ReplayError
from ..parameters import Parameters, all_specs


class Values(Parameters):
    """The defaults, and what is given instead."""

    def __init__(self, cameras: Sequence[str], given: Mapping[str, Any]):
        """Raises ReplayError for a value that the node would refuse."""
        self.cameras, self.specs = list(cameras), all_specs(cameras)
        self._values = {name: spec.default for name, spec in self.specs.items()} | dict(given)
        changes: list[Any] = [SimpleNamespace(name=name, value=value) for name, value in given.items()]
        try:
            why = self.refusal(changes, configured=False)
        except TypeError as error:
            raise ReplayError(
                f"a parameter has a value of the wrong type ({error}): {dict(given)}"
            ) from error
        if why:
            raise ReplayError(why)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]
