# SPDX-License-Identifier: MIT
"""The network: shapes, what is trained and what stays frozen, masked attention, configuration checks."""

import doctest

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eomt_anomaly.model import Decoder, EomtExt, EomtExtConfig, Label, eomt_ext, scores

DECODERS = [d.value for d in Decoder]


def tiny(**overrides):
    torch.manual_seed(0)
    return EomtExt(EomtExtConfig.preset("tiny", **overrides)).eval()


def same(a, b, atol=1e-5):
    return all(
        torch.allclose(getattr(a, f"{name}_logits"), getattr(b, f"{name}_logits"), atol=atol, rtol=1e-4)
        for name in ("mask", "class", "anomaly")
    )


@settings(max_examples=12, deadline=None)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    patch=st.sampled_from([14, 16]),
    registers=st.sampled_from([0, 4]),
    decoder=st.sampled_from(DECODERS),
    upscale=st.integers(1, 3),
)
def test_any_multiple_of_the_patch_size_works(rows, columns, patch, registers, decoder, upscale):
    model = tiny(patch_size=patch, num_register_tokens=registers, decoder=decoder, upscale_blocks=upscale)
    out = model(torch.randn(2, 3, rows * patch, columns * patch))
    factor = 2**upscale
    assert out.mask_logits.shape == (2, 8, rows * factor, columns * factor)
    assert out.class_logits.shape == (2, 8, 20) and out.anomaly_logits.shape == (2, 8, 3)
    assert all(x.isfinite().all() for x in (out.mask_logits, out.class_logits, out.anomaly_logits))


def test_the_dense_head_votes_as_one_more_query():
    """Classes stay as they are; the anomaly map gains softmax's P(anomaly) of each pixel."""
    model = tiny(dense_anomaly=True)
    with torch.no_grad():
        out = model(torch.randn(2, 3, 28, 42))
    alone = out.queries(8)
    assert out.mask_logits.shape == (2, 9, 8, 12) and alone.mask_logits.shape == (2, 8, 8, 12)
    with_vote, without = ((o.mask_logits, o.class_logits, o.anomaly_logits) for o in (out, alone))
    gained = scores.eomt_ext(*with_vote) - scores.eomt_ext(*without)
    torch.testing.assert_close(gained, out.dense_logits.softmax(1)[:, -1], rtol=0, atol=1e-6)
    torch.testing.assert_close(
        scores.semantic_map(*with_vote[:2]), scores.semantic_map(*without[:2]), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("size", [(28, 43), (27, 42), (0, 14), (13, 13)])
def test_other_sizes_are_refused_with_the_size(size):
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]}.*14"):
        tiny()(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("detail", [None, 1])
def test_images_of_a_batch_do_not_mix(decoder, detail):
    model = tiny(decoder=decoder, detail_layer=detail)
    pixels = torch.randn(3, 3, 42, 28)
    with torch.no_grad():
        batch, alone = model(pixels), model(pixels[1:2])
    assert same(
        alone, type(batch)(batch.mask_logits[1:2], batch.class_logits[1:2], batch.anomaly_logits[1:2])
    )


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    "overrides", [{}, {"detail_layer": 0, "upscale_channels": (16, 8), "scale_mask_logits": True}]
)
def test_the_backbone_is_frozen_and_the_rest_learns(decoder, overrides):
    model = tiny(decoder=decoder, **overrides).train()
    assert not model.backbone.training and model.decoder.training
    before = {name: p.clone() for name, p in model.backbone.named_parameters()}
    out = model(torch.randn(2, 3, 28, 28), mask_probs=[1.0])
    sum(
        x.square().mean()
        for o in (out, *out.auxiliary)
        for x in (o.mask_logits, o.class_logits, o.anomaly_logits)
    ).backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    idle = [
        name
        for name, p in model.named_parameters()
        if not name.startswith("backbone.") and (p.grad is None or not p.grad.abs().sum() > 0)
    ]
    assert [n for n in idle if not n.endswith(("k_proj.bias", "kv.bias", "qkv.bias", "in_proj_bias"))] == []
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    assert all(torch.equal(before[name], p) for name, p in model.backbone.named_parameters())


def test_joint_decoder_leaves_exactly_the_first_blocks_frozen():
    model = EomtExt(EomtExtConfig.preset("small", num_layers=5, decoder_blocks=2))
    assert len(model.backbone.blocks) == 3 and model.backbone.norm is None and len(model.decoder.blocks) == 2
    whole = EomtExt(
        EomtExtConfig.preset("small", num_layers=5, decoder="cross_attention", lateral_layers=(1, 4))
    )
    assert len(whole.backbone.blocks) == 5


def test_the_anomaly_loss_does_not_touch_the_class_head():
    model = tiny().train()
    model(torch.randn(1, 3, 28, 28)).anomaly_logits.sum().backward()
    assert model.class_head.weight.grad is None and model.mask_head.fc1.weight.grad is None
    assert model.anomaly_head.fc1.weight.grad.abs().sum() > 0


def test_the_anomaly_head_reads_entropy_and_confidence_of_the_known_classes():
    head = tiny().anomaly_head
    seen = []
    head.fc1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    logits = torch.zeros(1, 3, 20)
    logits[0, 1, 4] = 50.0  # sure
    logits[0, 2, -1] = 50.0  # no-object does not count: as uniform as the first
    head(torch.randn(1, 3, 32), logits)
    entropy, confidence = seen[0][0, :, -2], seen[0][0, :, -1]
    assert torch.allclose(entropy, torch.tensor([1.0, 0.0, 1.0]), atol=1e-5)
    assert torch.allclose(confidence, torch.tensor([1 / 19, 1.0, 1 / 19]), atol=1e-5)


def test_mask_logits_stay_fp32_under_autocast():
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert tiny()(torch.randn(1, 3, 28, 28)).mask_logits.dtype == torch.float32


def test_the_example_in_the_docstring():
    assert doctest.testmod(eomt_ext).attempted and not doctest.testmod(eomt_ext).failed


# ---- masked attention


@pytest.mark.parametrize("decoder", DECODERS)
def test_probability_zero_is_the_plain_forward(decoder):
    model = tiny(decoder=decoder, decoder_blocks=2)
    pixels = torch.randn(2, 3, 42, 42)
    with torch.no_grad():
        plain, annealed = model(pixels), model(pixels, mask_probs=[0.0, 0.0])
    assert same(plain, annealed) and len(annealed.auxiliary) == 2 and plain.auxiliary == []


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("bias", [-1e4, 1e4], ids=["empty", "full"])
def test_empty_and_full_masks_are_safe(decoder, bias):
    """A query whose mask is empty must not become NaN. A full mask changes nothing."""
    model = tiny(decoder=decoder, decoder_blocks=2)
    with torch.no_grad():
        for p in model.mask_head.parameters():
            p.zero_()
        norm = model.upscale.blocks[-1].norm  # constant features: every mask logit is `bias`
        norm.weight.zero_()
        norm.bias.fill_(1.0)
        model.mask_head.fc3.bias.fill_(bias / 32)
        pixels = torch.randn(1, 3, 28, 28)
        masked, plain = model(pixels, mask_probs=[1.0, 1.0]), model(pixels)
    assert torch.allclose(masked.mask_logits, torch.tensor(bias))
    assert masked.class_logits.isfinite().all() and masked.anomaly_logits.isfinite().all()
    assert same(masked, plain) or bias < 0


def test_masking_a_query_hides_the_rest_of_the_image():
    """What a query's mask leaves out cannot reach the query in that block."""
    model = tiny(decoder="cross_attention")
    from eomt_anomaly.model.decoders import foreground

    mask = torch.full((1, 2, 8, 8), -1.0)
    mask[0, 0, :4] = 1.0  # query 0 sees the upper half
    allowed = foreground(mask, (4, 4), 1.0)
    assert (
        allowed.shape == (1, 2, 16)
        and allowed[0, 0].view(4, 4)[:2].all()
        and not allowed[0, 0].view(4, 4)[2:].any()
    )
    assert not allowed[0, 1].any() and foreground(mask, (4, 4), 0.0).all()
    block = model.decoder.blocks[0].eval()
    x, memory = torch.randn(1, 2, 32), torch.randn(1, 16, 32)
    changed = memory.clone()
    changed[:, 8:] += 5.0
    view = allowed[:, None].clone()
    view[:, :, 1, :8] = True  # both look at the upper half only
    with torch.no_grad():
        assert torch.allclose(block(x, memory, view), block(x, changed, view), atol=1e-5)
        assert not torch.allclose(block(x, memory, None), block(x, changed, None), atol=1e-3)


def test_rows_are_freed_with_the_given_probability():
    from eomt_anomaly.model.decoders import foreground

    torch.manual_seed(0)
    freed = foreground(torch.full((10, 400, 4, 4), -1.0), (2, 2), 0.3).all(-1).float().mean()
    assert 0.67 < freed < 0.73


# ---- configuration


def test_presets_are_the_dinov2_sizes():
    sizes = {s: EomtExtConfig.preset(s) for s in ("small", "base", "large")}
    assert [(c.hidden_size, c.num_layers, c.num_heads, c.decoder_blocks) for c in sizes.values()] == [
        (384, 12, 6, 3),
        (768, 12, 12, 3),
        (1024, 24, 16, 4),
    ]
    assert all(c.num_queries == 100 and c.patch_size == 14 for c in sizes.values())
    with pytest.raises(ValueError, match="giant.*small"):
        EomtExtConfig.preset("giant")


@pytest.mark.parametrize(
    "field, value",
    [
        ("num_queries", 0),
        ("num_heads", 7),
        ("patch_size", -14),
        ("num_register_tokens", -1),
        ("decoder_blocks", 9),
        ("upscale_channels", (8,)),
        ("detail_layer", 2),
        ("pos_grid", 1.5),
        ("lateral_layers", (0, 3)),
        ("score", "magic"),
        ("pixel_std", (1.0, 0.0, 1.0)),
        ("labels", (Label(0, "a", (0, 0, 256)), Label(1, "b", (0, 0, 0)))),
        ("labels", (Label(0, "a", (0, 0, 0), drivable="false"), Label(1, "b", (0, 0, 0)))),
        ("labels", (Label(0, "a", (0, 0, 0), thing=1), Label(1, "b", (0, 0, 0)))),
        ("labels", (Label(0, None, (0, 0, 0)), Label(1, "b", (0, 0, 0)))),
    ],
)
def test_impossible_values_are_refused_by_name(field, value):
    decoder = "cross_attention" if field == "lateral_layers" else "joint"
    with pytest.raises(ValueError, match=field if field != "num_heads" else "hidden_size"):
        EomtExtConfig.preset("tiny", **{"decoder": decoder, field: value})


@pytest.mark.parametrize("ids", [(0,), (1, 2), (0, 0), (1, 0), (0, 2)])
def test_labels_must_be_numbered_from_zero(ids):
    with pytest.raises(ValueError, match="labels"):
        EomtExtConfig(labels=tuple(Label(i, f"c{i}", (0, 0, 0)) for i in ids))
