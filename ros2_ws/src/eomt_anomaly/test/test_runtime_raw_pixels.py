# SPDX-License-Identifier: MIT
"""Normalisation folded into the network: the same logits from the camera's bytes."""

import warnings

import numpy as np
import pytest
import torch
from runtime_reference import picture, tiny_model

from eomt_anomaly.runtime import Engine
from eomt_anomaly.runtime.network import DTYPES, prepare
from eomt_anomaly.runtime.preprocess import Normalizer, network_input, plan
from eomt_anomaly.runtime.raw_pixels import PatchProduct, raw_input

CPU = torch.device("cpu")
MODELS = {"plain": {}, "registers": {"num_register_tokens": 2, "patch_size": 16},
          "detail": {"detail_layer": 1, "upscale_channels": (24, 16)},
          "cross_attention": {"decoder": "cross_attention", "detail_layer": 0}}  # fmt: skip


def both(model, precision, image, mode="rectangle"):
    """The logits from normalised pixels and from raw ones, and the same for the patch embedding alone."""
    config = model.config
    shown = plan(*image.shape[:2], 4 * config.patch_size, config.patch_size, mode)
    normalize = Normalizer(config.pixel_mean, config.pixel_std, DTYPES[precision])
    normalised = network_input(image, shown, normalize)
    raw = raw_input(image, shown)
    assert raw.shape == normalised.shape and raw.dtype == torch.int8
    with torch.inference_mode():
        networks = (prepare(model, precision, CPU), prepare(model, precision, CPU, raw_pixels=True))
        return [(net(x), net.backbone.patch_embed(x)) for net, x in zip(networks, (normalised, raw))]


@pytest.mark.parametrize("mode", ["rectangle", "windows"])
@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_fp32_gives_the_same_logits(options, mode):
    (of_normalised, old), (of_raw, new) = both(tiny_model(**options), "fp32", picture(120, 190), mode)
    assert new.shape == old.shape and (new - old).abs().max() <= 1e-5 * old.abs().max()
    for name in ("mask_logits", "class_logits", "anomaly_logits"):
        a, b = getattr(of_normalised, name), getattr(of_raw, name)
        assert (a - b).abs().max() <= 1e-4 * a.abs().max(), name


@pytest.mark.parametrize("light", ["dark", "even", "bright"])
def test_bf16_rounds_no_more_than_normalised_pixels_did(light):
    """The largest bytes are as exact as the smallest, and what the weights lose meets small numbers."""
    image = picture(120, 190)
    image = {"dark": image // 4, "even": image, "bright": 255 - image // 4}[light]
    model = tiny_model(detail_layer=1)
    (_, exact), _ = both(model, "fp32", image)
    (_, old), (_, new) = both(model, "bf16", image)
    errors = [float((x.float() - exact).square().mean().sqrt()) for x in (old, new)]
    assert errors[1] <= errors[0], errors


def test_the_stem_sees_the_same_picture():
    """It has padding, whose zeros are the mean colour only after normalisation."""
    model, image = tiny_model(detail_layer=1), picture(120, 190)
    seen = []
    for raw in (False, True):
        network = prepare(model, "fp32", CPU, raw_pixels=raw)
        upscale = network.upscale.upscale if raw else network.upscale
        upscale.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        normalize = Normalizer(model.config.pixel_mean, model.config.pixel_std, torch.float32)
        shown = plan(*image.shape[:2], 56, 14)
        with torch.inference_mode():
            network(raw_input(image, shown) if raw else network_input(image, shown, normalize))
    np.testing.assert_allclose(seen[1].numpy(), seen[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("precision, folded", [("fp32", True), ("bf16", True), ("exact", False)])
def test_the_engine_folds_except_in_its_reference(precision, folded):
    model, image = tiny_model(detail_layer=1), picture(56, 84)
    image.flags.writeable = False            # a message's buffer, which is not ours to change
    with Engine(model, "cpu", precision) as engine, warnings.catch_warnings():
        warnings.simplefilter("error")
        embed = engine._pipeline.setup.network.backbone.patch_embed
        assert isinstance(embed, PatchProduct if folded else torch.nn.Conv2d)
        engine.infer([image])
    assert type(model.backbone.patch_embed) is torch.nn.Conv2d       # the model itself stays as it was
