# SPDX-License-Identifier: MIT
"""Parity of adapted weights with `transformers` on random weights, and strictness of the adapters."""

import re
from contextlib import nullcontext

import pytest
import torch

from eomt_anomaly.model import EomtExt, EomtExtConfig, adapters

transformers = pytest.importorskip("transformers", reason="parity is measured against transformers")

RELATIVE = 1e-4


def randomised(module):
    """Every weight random and of a size that matters: default weights hide swapped or ignored tensors."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in module.named_parameters():
            scale = 0.3 if p.ndim == 1 else 1.0 / max(p[0].numel(), 1) ** 0.5
            p.copy_(
                torch.randn(p.shape, generator=generator) * scale
                + (1.0 if re.search(r"norm.*weight", name) else 0.0)
            )
    return module.eval()


def close(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= RELATIVE * theirs.abs().max()


def hf_dinov2(registers=0, patch=14, image=56, **overrides):
    sizes = {
        **dict(
            hidden_size=48, num_hidden_layers=4, num_attention_heads=3, patch_size=patch, image_size=image
        ),
        **overrides,
    }
    if registers:
        config = transformers.Dinov2WithRegistersConfig(num_register_tokens=registers, **sizes)
        return randomised(transformers.Dinov2WithRegistersModel(config))
    return randomised(transformers.Dinov2Model(transformers.Dinov2Config(**sizes)))


def hf_eomt(patch=16, image=64, registers=4, queries=7, blocks=2, classes=5, **overrides):
    return randomised(
        transformers.EomtForUniversalSegmentation(
            transformers.EomtConfig(
                **{
                    **dict(
                        hidden_size=48,
                        num_hidden_layers=4,
                        num_attention_heads=3,
                        patch_size=patch,
                        image_size=image,
                        num_blocks=blocks,
                        num_queries=queries,
                        num_labels=classes,
                        num_register_tokens=registers,
                    ),
                    **overrides,
                }
            )
        )
    )


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("patch", [14, 16])
@pytest.mark.parametrize("grid", [(4, 4), (7, 7), (3, 8), (9, 5), (2, 2)])  # stored: 4 x 4
def test_dinov2_parity(registers, patch, grid):
    hf = hf_dinov2(registers, patch, image=4 * patch)
    vit = adapters.from_hf_dinov2(hf)
    pixels = torch.randn(2, 3, grid[0] * patch, grid[1] * patch)
    with torch.no_grad():
        close(vit.norm(vit(pixels)[0]), hf(pixels).last_hidden_state)


@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_parity_small_preset(registers):
    """The real ViT-S/14 size, 37 x 37 stored positions."""
    hf = hf_dinov2(registers, image=518, hidden_size=384, num_hidden_layers=12, num_attention_heads=6)
    vit = adapters.from_hf_dinov2(hf)
    pixels = torch.randn(1, 3, 126, 238)
    with torch.no_grad():
        close(vit.norm(vit(pixels)[0]), hf(pixels).last_hidden_state)


def test_tensor_names_of_older_transformers():
    """4.57 says attention.attention.query and attention.output.dense; 5.x says q_proj and o_proj."""
    hf, pixels = hf_dinov2(), torch.randn(1, 3, 56, 56)
    old = {
        "q_proj": "attention.query",
        "k_proj": "attention.key",
        "v_proj": "attention.value",
        "o_proj": "output.dense",
    }
    state = {re.sub(r"[qkvo]_proj", lambda m: old[m[0]], name): t for name, t in hf.state_dict().items()}
    assert "encoder.layer.0.attention.attention.query.weight" in state or "q_proj" not in str(
        list(hf.state_dict())
    )
    with torch.no_grad():
        expected = hf(pixels).last_hidden_state
        hf.state_dict = lambda: state
        vit = adapters.from_hf_dinov2(hf)
        close(vit.norm(vit(pixels)[0]), expected)


def test_dinov2_goes_into_a_model():
    vit = adapters.from_hf_dinov2(hf_dinov2())
    assert vit.coverage.unused == ("embeddings.mask_token",) and not vit.coverage.missing
    model = EomtExt(vit.config)
    model.load_backbone(vit.state_dict())
    pixels = torch.randn(1, 3, 42, 56)
    with torch.no_grad():
        tokens = model.backbone(pixels)[0]
        for block in model.decoder.blocks:
            tokens = block(tokens)
        close(model.decoder.norm(tokens), vit.norm(vit(pixels)[0]))


@pytest.mark.parametrize(
    "patch, image, registers, queries, blocks",
    [(16, 64, 4, 7, 2), (16, 96, 0, 5, 1), (14, 56, 4, 7, 4), (14, 70, 0, 9, 3), (16, 32, 1, 20, 2)],
)
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_eomt_parity(patch, image, registers, queries, blocks, masked):
    hf = hf_eomt(patch, image, registers, queries, blocks)
    hf.attn_mask_probs.fill_(float(masked))
    with pytest.warns(UserWarning, match="still mask attention") if masked else nullcontext():
        model = adapters.from_hf_eomt(hf)
    pixels = torch.randn(2, 3, image, image)
    with torch.no_grad():
        theirs, ours = hf(pixels), model(pixels, mask_probs=[1.0] * blocks if masked else None)
    close(ours.mask_logits, theirs.masks_queries_logits)
    close(ours.class_logits, theirs.class_queries_logits)
    assert ours.anomaly_logits.shape == (2, queries, 3)
    assert len(ours.auxiliary) == (blocks if masked else 0)


def test_eomt_parity_at_a_real_size():
    """EoMT-S as published: 384 wide, 12 blocks, 3 of them joint, 100 queries; at 320 px."""
    sizes = dict(hidden_size=384, num_hidden_layers=12, num_attention_heads=6)
    hf = hf_eomt(16, 320, 4, queries=100, blocks=3, classes=19, **sizes)
    hf.attn_mask_probs.zero_()
    model, pixels = adapters.from_hf_eomt(hf), torch.randn(1, 3, 320, 320)
    with torch.no_grad():
        ours, theirs = model(pixels), hf(pixels)
    close(ours.mask_logits, theirs.masks_queries_logits)
    close(ours.class_logits, theirs.class_queries_logits)


def test_masked_attention_matters():
    """Otherwise the masked case above proves nothing."""
    hf = hf_eomt()
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        masked = hf(pixels).masks_queries_logits
        hf.attn_mask_probs.zero_()
        assert not torch.allclose(masked, hf(pixels).masks_queries_logits, rtol=1e-2)


def test_eomt_coverage_and_config():
    hf = hf_eomt()
    hf.config.id2label = {i: f"thing {i}" for i in range(5)}
    model = adapters.from_hf_eomt(hf)
    assert set(model.coverage.unused) == {"attn_mask_probs", "criterion.empty_weight"}
    assert (
        all(name.startswith("anomaly_head.") for name in model.coverage.missing)
        and len(model.coverage.missing) == 4
    )
    assert "anomaly_head.fc1.weight" in str(model.coverage)
    assert set(model.coverage.used) | set(model.coverage.unused) == set(hf.state_dict())
    assert [label.name for label in model.config.labels] == [f"thing {i}" for i in range(5)]
    assert model.config.score == "max_entropy"  # the anomaly head is random: do not alert on it


def to_tue(hf, cls_position):
    """The names `tue-mps/eomt` uses for the same weights."""
    s = hf.state_dict()
    out = {
        "network.attn_mask_probs": s["attn_mask_probs"],
        "criterion.empty_weight": s["criterion.empty_weight"],
        "network.encoder.pixel_mean": torch.tensor([0.5, 0.5, 0.5]).view(1, 3, 1, 1),
        "network.encoder.pixel_std": torch.tensor([0.5, 0.5, 0.5]).view(1, 3, 1, 1),
        "network.q.weight": s["query.weight"],
    }
    backbone = "network.encoder.backbone."
    pos = s["embeddings.position_embeddings.weight"][None]
    if cls_position:
        pos = torch.cat([torch.ones(1, 1, pos.shape[-1]), pos], 1)
    out[backbone + "cls_token"] = s["embeddings.cls_token"] - float(cls_position)
    out[backbone + "pos_embed"] = pos
    if s["embeddings.register_tokens"].numel():
        out[backbone + "reg_token"] = s["embeddings.register_tokens"]
    for kind in ("weight", "bias"):
        out[backbone + f"patch_embed.proj.{kind}"] = s[f"embeddings.patch_embeddings.projection.{kind}"]
        out[backbone + f"norm.{kind}"] = s[f"layernorm.{kind}"]
        out[f"network.class_head.{kind}"] = s[f"class_predictor.{kind}"]
        for i in range(3):
            out[f"network.mask_head.{2 * i}.{kind}"] = s[f"mask_head.fc{i + 1}.{kind}"]
        for i in range(hf.config.num_hidden_layers):
            block, layer = f"{backbone}blocks.{i}.", f"layers.{i}."
            out[f"{block}attn.qkv.{kind}"] = torch.cat(
                [s[f"{layer}attention.{x}_proj.{kind}"] for x in "qkv"]
            )
            out[f"{block}attn.proj.{kind}"] = s[f"{layer}attention.out_proj.{kind}"]
            for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                out[f"{block}{name}.{kind}"] = s[f"{layer}{name}.{kind}"]
            for j in (1, 2):
                out[f"{block}ls{j}.gamma"] = s[f"{layer}layer_scale{j}.lambda1"]
    for name, tensor in s.items():
        if name.startswith("upscale_block"):
            out[name.replace("upscale_block.block", "network.upscale").replace("layernorm2d", "norm")] = (
                tensor
            )
    return out


@pytest.mark.parametrize("registers, cls_position", [(4, False), (0, True)])
def test_tue_parity(registers, cls_position):
    hf = hf_eomt(registers=registers, hidden_size=128, num_attention_heads=2)
    hf.attn_mask_probs.zero_()
    model = adapters.from_tue_eomt(to_tue(hf, cls_position))
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        close(model(pixels).mask_logits, hf(pixels).masks_queries_logits)
    assert model.config.pixel_mean == (0.5, 0.5, 0.5) and model.config.decoder_blocks == 2


def random_tue(width=128, depth=4, queries=5, classes=3, blocks=2, grid=4, patch=16, registers=2):
    """A state dict in the layout of `tue-mps/eomt` on a timm ViT whose cls has no position, key by key."""
    generator, state = torch.Generator().manual_seed(1), {}

    def put(name, *shape, around=0.0):
        fan_in = max(torch.Size(shape[1:]).numel(), 1) if len(shape) > 1 else 10
        state["network." + name] = around + torch.randn(shape, generator=generator) / fan_in**0.5

    def linear(name, out, *inputs):
        put(f"{name}.weight", out, *inputs)
        put(f"{name}.bias", out)

    def norm(name):
        put(f"{name}.weight", width, around=1.0)
        put(f"{name}.bias", width)

    vit = "encoder.backbone."
    put(vit + "cls_token", 1, 1, width)
    put(vit + "reg_token", 1, registers, width)
    put(vit + "pos_embed", 1, grid * grid, width)
    linear(vit + "patch_embed.proj", width, 3, patch, patch)
    norm(vit + "norm")
    for i in range(depth):
        block = f"{vit}blocks.{i}."
        norm(block + "norm1")
        norm(block + "norm2")
        linear(block + "attn.qkv", 3 * width, width)
        linear(block + "attn.proj", width, width)
        linear(block + "mlp.fc1", 4 * width, width)
        linear(block + "mlp.fc2", width, 4 * width)
        put(block + "ls1.gamma", width, around=0.5)
        put(block + "ls2.gamma", width, around=0.5)
    put("q.weight", queries, width)
    linear("class_head", classes + 1, width)
    for i in (0, 2, 4):
        linear(f"mask_head.{i}", width, width)
    for i in range(2):
        put(f"upscale.{i}.conv1.weight", width, width, 2, 2)
        put(f"upscale.{i}.conv1.bias", width)
        put(f"upscale.{i}.conv2.weight", width, 1, 3, 3)
        norm(f"upscale.{i}.norm")
    state["network.attn_mask_probs"] = torch.zeros(blocks)
    state["network.encoder.pixel_mean"] = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    state["network.encoder.pixel_std"] = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    return state


def tue_reference(state, pixels, heads, blocks):
    """EoMT's forward pass at inference (arXiv 2503.19108) on those names: mask and class logits.

    Written from the paper, with explicit attention, and nothing of ours. The stored grid must be the image's.
    """
    s = {name.removeprefix("network."): tensor for name, tensor in state.items()}
    vit = "encoder.backbone."

    def linear(name, x):
        return x @ s[f"{name}.weight"].T + s[f"{name}.bias"]

    def norm(name, x):
        deviation = x - x.mean(-1, keepdim=True)
        scale = (deviation.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
        return deviation / scale * s[f"{name}.weight"] + s[f"{name}.bias"]

    def gelu(x):
        return x * 0.5 * (1 + torch.erf(x / 2**0.5))

    def attention(name, x):
        b, t, d = x.shape
        q, k, v = (y.reshape(b, t, heads, -1).transpose(1, 2) for y in linear(f"{name}.qkv", x).chunk(3, -1))
        weights = (q @ k.transpose(-1, -2) * (d // heads) ** -0.5).softmax(-1)  # [B,heads,T,T]
        return linear(f"{name}.proj", (weights @ v).transpose(1, 2).reshape(b, t, d))

    patch = s[vit + "patch_embed.proj.weight"]
    x = torch.nn.functional.conv2d(pixels, patch, s[vit + "patch_embed.proj.bias"], stride=patch.shape[-1])
    grid = x.shape[-2:]
    prefix = torch.cat([s[vit + "cls_token"], s[vit + "reg_token"]], 1).expand(len(x), -1, -1)
    x = torch.cat([prefix, x.flatten(2).transpose(1, 2) + s[vit + "pos_embed"]], 1)
    depth = 1 + max(int(name.split(".")[3]) for name in s if ".blocks." in name)
    for i in range(depth):
        if i == depth - blocks:
            x = torch.cat([s["q.weight"].expand(len(x), -1, -1), x], 1)
        block = f"{vit}blocks.{i}."
        x = x + s[block + "ls1.gamma"] * attention(block + "attn", norm(block + "norm1", x))
        hidden = gelu(linear(block + "mlp.fc1", norm(block + "norm2", x)))
        x = x + s[block + "ls2.gamma"] * linear(block + "mlp.fc2", hidden)
    x = norm(vit + "norm", x)
    query, patches = x[:, : len(s["q.weight"])], x[:, -grid[0] * grid[1] :]
    features = patches.transpose(1, 2).reshape(len(x), -1, *grid)
    for i in range(2):
        name = f"upscale.{i}."
        features = gelu(
            torch.nn.functional.conv_transpose2d(
                features, s[name + "conv1.weight"], s[name + "conv1.bias"], stride=2
            )
        )
        depthwise = s[name + "conv2.weight"]
        features = torch.nn.functional.conv2d(features, depthwise, padding=1, groups=len(depthwise))
        features = norm(name + "norm", features.movedim(1, -1)).movedim(-1, 1)
    embedding = linear("mask_head.4", gelu(linear("mask_head.2", gelu(linear("mask_head.0", query)))))
    return (embedding @ features.flatten(2)).unflatten(2, features.shape[-2:]), linear("class_head", query)


@pytest.mark.parametrize("blocks, registers", [(1, 2), (2, 0), (4, 1)])
def test_tue_parity_with_a_reference_of_its_own(blocks, registers):
    state = random_tue(blocks=blocks, registers=registers)
    model, pixels = adapters.from_tue_eomt(state), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        ours, (masks, classes) = model(pixels), tue_reference(state, pixels, heads=2, blocks=blocks)
    close(ours.mask_logits, masks)
    close(ours.class_logits, classes)
    assert set(model.coverage.used) | {"attn_mask_probs", "encoder.pixel_mean", "encoder.pixel_std"} == {
        name.removeprefix("network.") for name in state
    }
    assert all(name.startswith("anomaly_head.") for name in model.coverage.missing)


@pytest.mark.parametrize(
    "key",
    ["encoder.backbone.blocks.2.attn.qkv.bias", "mask_head.2.weight", "upscale.1.norm.weight", "q.weight"],
)
def test_a_tue_state_that_does_not_fit_is_refused_by_name(key):
    state, full = random_tue(), "network." + key
    ours = key.removeprefix("encoder.backbone.").replace("mask_head.2", "mask_head.fc2")
    ours = ours.replace("upscale.1", "upscale.blocks.1").replace("q.weight", "decoder.query.weight")
    ours = re.escape(ours)
    with pytest.raises(ValueError, match=ours):
        adapters.from_tue_eomt({name: t for name, t in state.items() if name != full})
    with pytest.raises(ValueError, match=ours):
        adapters.from_tue_eomt({**state, full: torch.zeros(3, 1)})
    with pytest.raises(ValueError, match=re.escape(key + "_extra")):
        adapters.from_tue_eomt({**state, full + "_extra": torch.zeros(1)})


def edited(hf, edit):
    """The HF model with its state dict changed by `edit`."""
    state = hf.state_dict()
    edit(state)
    hf.state_dict = lambda: state
    return hf


@pytest.mark.parametrize(
    "make, adapt, key",
    [
        (hf_dinov2, adapters.from_hf_dinov2, "encoder.layer.1.mlp.fc1.weight"),
        (hf_dinov2, adapters.from_hf_dinov2, "layernorm.bias"),
        (hf_eomt, adapters.from_hf_eomt, "layers.3.norm2.bias"),
        (hf_eomt, adapters.from_hf_eomt, "mask_head.fc2.weight"),
        (hf_eomt, adapters.from_hf_eomt, "upscale_block.block.0.conv2.weight"),
    ],
)
def test_a_missing_extra_or_misshaped_tensor_is_named(make, adapt, key):
    ours = re.sub(r"encoder\.layer\.|layers\.", "blocks.", key).replace(
        "upscale_block.block", "upscale.blocks"
    )
    ours = ours.replace("layernorm", "norm")
    with pytest.raises(ValueError, match=re.escape(ours)):
        adapt(edited(make(), lambda state: state.pop(key)))
    with pytest.raises(ValueError, match=re.escape(ours)):
        adapt(edited(make(), lambda state: state.update({key: torch.zeros(3, 1)})))
    with pytest.raises(ValueError, match=re.escape(key + "_extra")):
        adapt(edited(make(), lambda state: state.update({key + "_extra": torch.zeros(1)})))


def test_other_architectures_are_refused():
    with pytest.raises(ValueError, match="no place"):
        adapters.from_hf_dinov2(hf_dinov2(use_swiglu_ffn=True))
    with pytest.raises(ValueError, match="relu"):
        adapters.from_hf_dinov2(hf_dinov2(hidden_act="relu"))
    with pytest.raises(ValueError, match="not square"):
        adapters.from_hf_dinov2(hf_dinov2(image=(56, 126)))
    with pytest.raises(ValueError, match="qkv.bias|attn.q"):
        adapters.from_hf_dinov2(hf_dinov2(qkv_bias=False))
    with pytest.raises(ValueError, match="3 labels"):
        adapters.from_hf_eomt(hf_eomt(), labels=EomtExtConfig(labels=EomtExtConfig().labels[:3]).labels)
    with pytest.raises(ValueError, match="decoder_blocks"):
        adapters.from_tue_eomt({})
