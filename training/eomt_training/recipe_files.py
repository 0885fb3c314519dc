# SPDX-License-Identifier: MIT
"""A command line of recipes in files: what a later file leaves out stays as in the one before."""

from __future__ import annotations

from typing import Any

import lightning as L
from jsonargparse import ActionConfigFile, Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI


class RecipeFile(ActionConfigFile):
    """A configuration file adds its `model.options` to those before it, as the fields of every other group.

    jsonargparse has one value for a dictionary: the later file's would drop the recipe's options unseen.
    """

    @staticmethod
    def apply_config(parser: LightningArgumentParser, cfg: Namespace, dest: str, value: str) -> None:
        before = cfg.get("model.options")
        ActionConfigFile.apply_config(parser, cfg, dest, value)
        if before and cfg["model.options"]:
            cfg["model.options"] = {**before, **cfg["model.options"]}


class RecipeCLI(LightningCLI):
    """Lightning's command line, whose files are `RecipeFile` s."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """As Lightning's own, with `RecipeFile`."""
        kwargs.setdefault("dump_header", [f"lightning.pytorch=={L.__version__}"])
        parser = self.parser_class(**kwargs)
        parser.add_argument("-c", "--config", action=RecipeFile, help="YAML file of a recipe, or of changes")
        return parser
