# SPDX-License-Identifier: MIT
"""Networks of the baselines: the published layer table, score formulas, checkpoints and their refusals."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from eomt_anomaly.model import EomtExt, EomtExtConfig
from eomt_anomaly.model.config import numbered_labels
from eomt_training.baselines import DenseConfig, DenseNet, ErfNet, ErfNetConfig, open_predictor
from eomt_training.baselines.pixel_scores import energy, max_entropy, max_logit, msp

# Romera et al. (2018), Table I, for 1024 x 512 input: channels and size (width x height) after each layer.
ERFNET_TABLE = (
    [(16, 512, 256), (64, 256, 128)] + [(64, 256, 128)] * 5 + [(128, 128, 64)] * 9
    + [(64, 256, 128)] * 3 + [(16, 512, 256)] * 3 + [(20, 1024, 512)]
)


def erfnet(classes=19):
    torch.manual_seed(0)
    return ErfNet(ErfNetConfig(numbered_labels(classes))).eval()


def dense(**options):
    torch.manual_seed(0)
    options = {"labels": numbered_labels(5), "upscale_channels": (24, 16), "detail_layer": 1, **options}
    return DenseNet(DenseConfig.preset("tiny", **options)).eval()


def test_erfnet_has_the_layers_of_the_paper():
    net, found = erfnet(), []
    for layer in (*net.encoder, *net.decoder, net.head):
        layer.register_forward_hook(lambda m, i, y: found.append((y.shape[1], y.shape[3], y.shape[2])))
    with torch.no_grad():
        net(torch.zeros(1, 3, 512, 1024))
    assert found == ERFNET_TABLE
    dilations = [layer.conv2_v.dilation[0] for layer in net.encoder[8:]]
    assert dilations == [2, 4, 8, 16, 2, 4, 8, 16]
    assert [layer.dropout.p for layer in net.encoder[2:7]] == [0.03] * 5
    assert {layer.dropout.p for layer in net.encoder[8:]} == {0.3}


def test_erfnet_has_as_many_parameters_as_the_layer_table_says():
    def conv(i, o, k):
        return i * o * k + o

    def residual(c):  # four factorised convolutions, two norms
        return 4 * conv(c, c, 3) + 2 * 2 * c

    def down(i, o):
        return conv(i, o - i, 9) + 2 * o

    def up(i, o):
        return conv(i, o, 9) + 2 * o

    encoder = down(3, 16) + down(16, 64) + 5 * residual(64) + down(64, 128) + 8 * residual(128)
    decoder = up(128, 64) + 2 * residual(64) + up(64, 16) + 2 * residual(16) + conv(16, 20, 4)
    found = sum(p.numel() for p in erfnet().parameters())
    assert found == encoder + decoder
    assert round(found / 1e6, 2) == 2.06


@pytest.mark.parametrize("make", [erfnet, dense])
def test_logits_are_float32_under_autocast_as_those_of_eomt_ext_are(make):
    net, pixels = make(), torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        full = net(pixels)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = net(pixels)
            semantic, scores = net.predict_scores(pixels)
    assert mixed.dtype == semantic.dtype == torch.float32
    assert mixed.unique().numel() > 0.9 * full.unique().numel(), "rounded to bfloat16, pixels would tie"
    assert all(score.dtype == torch.float32 for score in scores.values())
    assert torch.allclose(mixed, full, atol=0.1 * full.abs().max()) and not torch.equal(mixed, full)


def test_erfnet_refuses_sizes_it_would_have_to_crop():
    with pytest.raises(ValueError, match="30x64 px.*multiples of 8"):
        erfnet()(torch.zeros(1, 3, 30, 64))


def test_pixel_scores_are_their_formulas():
    x = torch.tensor([2.0, -1.0, 0.5]).view(1, 3, 1, 1)
    p = [math.exp(v) for v in (2.0, -1.0, 0.5)]
    total = sum(p)
    p = [v / total for v in p]
    assert msp(x).item() == pytest.approx(1 - p[0], abs=1e-6)
    assert max_logit(x).item() == -2.0
    assert max_entropy(x).item() == pytest.approx(-sum(v * math.log(v) for v in p) / math.log(3), abs=1e-6)
    assert energy(x).item() == pytest.approx(-math.log(total), abs=1e-6)


def test_the_void_output_is_a_score_of_its_own():
    net, pixels = erfnet(4), torch.rand(2, 3, 32, 48)
    semantic, found = net.predict_scores(pixels)
    assert semantic.shape == (2, 4, 32, 48) and torch.allclose(semantic.sum(1), torch.ones(2, 32, 48))
    assert set(found) == {"msp", "max_logit", "max_entropy", "void"}
    assert torch.equal(found["void"], net(pixels).softmax(1)[:, 4])
    with torch.no_grad():
        net.head.bias[4] += 5
    _, shifted = net.predict_scores(pixels)
    assert (shifted["void"] > found["void"]).all()
    assert all(torch.equal(shifted[n], found[n]) for n in ("msp", "max_logit", "max_entropy"))


@pytest.mark.parametrize("trained", [0, 1])
def test_the_dense_head_judges_every_pixel_with_a_frozen_backbone(trained):
    net, pixels = dense(trained_blocks=trained), torch.randn(2, 3, 28, 42)
    semantic, found = net.train().predict_scores(pixels)
    assert semantic.shape == (2, 5, 8, 12) and torch.allclose(semantic.sum(1), torch.ones(2, 8, 12))
    assert set(found) == {"anomaly", "msp", "max_logit", "max_entropy", "energy"}
    assert all(score.shape == (2, 8, 12) for score in found.values())
    net(pixels).sum().backward()
    for name, p in net.named_parameters():
        assert (p.grad is None) == name.startswith("backbone."), name


def test_trained_blocks_start_as_the_backbone_s_last_ones():
    """So that untrained copies compute what the whole frozen ViT computes."""
    whole = dense().backbone
    net = dense(trained_blocks=1)
    net.load_backbone(whole.state_dict())
    pixels = torch.randn(1, 3, 28, 28)
    tokens = net.backbone(pixels)[0]
    assert torch.equal(net.norm(net.blocks[0](tokens)), whole.norm(whole(pixels)[0]))
    state = whole.state_dict()
    state.pop("blocks.2.mlp.fc1.weight")
    with pytest.raises(ValueError, match="blocks.2.mlp.fc1.weight"):
        net.load_backbone(state)


@pytest.mark.parametrize("make", [erfnet, dense], ids=["erfnet", "dense"])
def test_a_checkpoint_gives_the_same_scores_and_is_loaded_whole_or_not_at_all(make, tmp_path):
    net, pixels = make(), torch.randn(1, 3, 56, 56)
    net.save_pretrained(tmp_path)
    again = open_predictor(tmp_path)
    assert type(again) is type(net) and again.config == net.config and not again.training
    (semantic, expected), (same, found) = net.predict_scores(pixels), again.predict_scores(pixels)
    assert torch.equal(semantic, same)
    assert all(torch.equal(expected[name], found[name]) for name in net.score_names)

    state = load_file(tmp_path / "model.safetensors")
    key = sorted(k for k in state if k.endswith("weight"))[0]
    save_file({k: v for k, v in state.items() if k != key}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="sha256"):
        open_predictor(tmp_path)


def test_open_predictor_knows_every_kind(tmp_path):
    model = EomtExt(EomtExtConfig.preset("tiny", labels=numbered_labels(5)))
    model.save_pretrained(tmp_path / "ext", dtype=torch.float32)
    semantic, found = open_predictor(tmp_path / "ext").predict_scores(torch.randn(1, 3, 28, 42))
    assert semantic.shape == (1, 5, 8, 12) and "eomt_ext" in found and len(found) == 8

    plain = EomtExt(EomtExtConfig.preset("tiny", labels=numbered_labels(5), score="rba"))
    plain.save_pretrained(tmp_path / "plain")
    predictor = open_predictor(tmp_path / "plain")
    assert "eomt_ext" not in predictor.score_names and len(predictor.score_names) == 7
    assert set(predictor.predict_scores(torch.randn(1, 3, 28, 28), ["rba"])[1]) == {"rba"}

    with pytest.raises(FileNotFoundError, match="config.json"):
        open_predictor(tmp_path / "nowhere")
    config = tmp_path / "plain/config.json"
    config.write_text(json.dumps({"kind": "segnet"}))
    with pytest.raises(ValueError, match="segnet"):
        open_predictor(tmp_path / "plain")
