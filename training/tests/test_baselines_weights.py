# SPDX-License-Identifier: MIT
"""Users' own ERFNet weights: parity with a forward pass written from the public layout, and refusals."""

import pickle

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from eomt_training.baselines import open_predictor
from eomt_training.baselines.erfnet_weights import from_public_erfnet, main
from eomt_training.baselines.files import read_state


def public_state(outputs=20, module=True):
    """Random weights under the public names: every tensor of encoder, decoder and the encoder's own head."""
    generator, state = torch.Generator().manual_seed(0), {}

    def put(name, *shape):
        fan_in = max(torch.Size(shape[1:]).numel(), 1)
        state[name] = torch.randn(shape, generator=generator) / fan_in**0.5

    def conv(name, *shape, bias):
        put(f"{name}.weight", *shape)
        put(f"{name}.bias", bias)

    def norm(name, c):
        for part in ("weight", "bias", "running_mean"):
            put(f"{name}.{part}", c)
        state[f"{name}.weight"] = 1 + 0.3 * state[f"{name}.weight"]
        state[f"{name}.running_var"] = 0.5 + torch.rand(c, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def down(name, i, o):
        conv(f"{name}.conv", o - i, i, 3, 3, bias=o - i)
        norm(f"{name}.bn", o)

    def residual(name, c):
        for k in (1, 2):
            conv(f"{name}.conv3x1_{k}", c, c, 3, 1, bias=c)
            conv(f"{name}.conv1x3_{k}", c, c, 1, 3, bias=c)
            norm(f"{name}.bn{k}", c)

    def up(name, i, o):
        conv(f"{name}.conv", i, o, 3, 3, bias=o)
        norm(f"{name}.bn", o)

    down("encoder.initial_block", 3, 16)
    down("encoder.layers.0", 16, 64)
    for i in range(1, 6):
        residual(f"encoder.layers.{i}", 64)
    down("encoder.layers.6", 64, 128)
    for i in range(7, 15):
        residual(f"encoder.layers.{i}", 128)
    conv("encoder.output_conv", outputs, 128, 1, 1, bias=outputs)
    up("decoder.layers.0", 128, 64)
    up("decoder.layers.3", 64, 16)
    for i, c in ((1, 64), (2, 64), (4, 16), (5, 16)):
        residual(f"decoder.layers.{i}", c)
    conv("decoder.output_conv", 16, outputs, 2, 2, bias=outputs)
    return {("module." if module else "") + name: tensor for name, tensor in state.items()}


def reference(state, x):
    """Logits, from the paper's description and the public names alone."""
    s = {name.removeprefix("module."): tensor for name, tensor in state.items()}

    def conv(name, x, **options):
        return F.conv2d(x, s[f"{name}.weight"], s[f"{name}.bias"], **options)

    def norm(name, x):
        mean, var, weight, bias = (
            s[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias, eps=1e-3)

    def down(name, x):
        y = torch.cat([conv(f"{name}.conv", x, stride=2, padding=1), F.max_pool2d(x, 2, stride=2)], 1)
        return norm(f"{name}.bn", y).relu()

    def residual(name, x, d=1):
        y = conv(f"{name}.conv3x1_1", x, padding=(1, 0)).relu()
        y = norm(f"{name}.bn1", conv(f"{name}.conv1x3_1", y, padding=(0, 1))).relu()
        y = conv(f"{name}.conv3x1_2", y, padding=(d, 0), dilation=(d, 1)).relu()
        y = norm(f"{name}.bn2", conv(f"{name}.conv1x3_2", y, padding=(0, d), dilation=(1, d)))
        return (x + y).relu()

    def up(name, x):
        y = F.conv_transpose2d(
            x, s[f"{name}.conv.weight"], s[f"{name}.conv.bias"], stride=2, padding=1, output_padding=1
        )
        return norm(f"{name}.bn", y).relu()

    x = down("encoder.layers.0", down("encoder.initial_block", x))
    for i in range(1, 6):
        x = residual(f"encoder.layers.{i}", x)
    x = down("encoder.layers.6", x)
    for i, d in enumerate((2, 4, 8, 16, 2, 4, 8, 16)):
        x = residual(f"encoder.layers.{7 + i}", x, d)
    x = residual("decoder.layers.2", residual("decoder.layers.1", up("decoder.layers.0", x)))
    x = residual("decoder.layers.5", residual("decoder.layers.4", up("decoder.layers.3", x)))
    head = "decoder.output_conv"
    return F.conv_transpose2d(x, s[f"{head}.weight"], s[f"{head}.bias"], stride=2)


@pytest.mark.parametrize("module", [True, False])
def test_parity_with_the_public_layout(module):
    state, pixels = public_state(module=module), torch.rand(2, 3, 64, 96)
    net = from_public_erfnet(state)
    with torch.no_grad():
        ours, theirs = net(pixels), reference(state, pixels)
    assert ours.shape == (2, 20, 64, 96) and net.config.num_classes == 19
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.parametrize(
    "key", ["encoder.layers.3.conv1x3_2.weight", "decoder.output_conv.bias", "encoder.initial_block.bn.bias"]
)
def test_a_missing_or_misshapen_tensor_is_named_as_in_the_file(key):
    state = public_state(module=False)
    with pytest.raises(ValueError, match=key):
        from_public_erfnet({k: v for k, v in state.items() if k != key})
    with pytest.raises(ValueError, match=key.replace("bias", "(bias|weight)")):
        from_public_erfnet({**state, key: torch.zeros(3, 1)})


def test_an_extra_tensor_and_other_labels_are_refused():
    from eomt_training.labels import LABELS

    state = public_state()
    with pytest.raises(ValueError, match="encoder.layers.15.conv.weight"):
        from_public_erfnet({**state, "module.encoder.layers.15.conv.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="20 outputs.*11 labels"):
        from_public_erfnet(state, LABELS["camvid"])


def test_weights_without_batch_counters_load():
    """Files of torch before 0.4.1."""
    state = {k: v for k, v in public_state().items() if not k.endswith("num_batches_tracked")}
    from_public_erfnet(state)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_file_becomes_a_checkpoint_folder(wrapped, tmp_path, capsys):
    state, pixels = public_state(outputs=12), torch.rand(1, 3, 32, 32)
    path = tmp_path / "best.pth"
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, path)
    assert main([str(path), str(tmp_path / "out"), "--labels", "camvid"]) == 0
    net = open_predictor(tmp_path / "out")
    assert net.config.labels[3].name == "road" and "void" not in net.score_names
    assert main([str(path), str(tmp_path / "void"), "--labels", "camvid", "--void"]) == 0
    assert "void" in open_predictor(tmp_path / "void").score_names
    with torch.no_grad():
        assert torch.allclose(net(pixels), reference(state, pixels), rtol=1e-3, atol=1e-4)
    save_file(state, tmp_path / "best.safetensors")
    assert read_state(tmp_path / "best.safetensors").keys() == state.keys()


class Payload:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_in_a_file_is_executed(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"x": Payload()}))
    torch.save({"x": Payload()}, tmp_path / "zipped.pth")
    for name in ("evil.pth", "zipped.pth"):
        with pytest.raises(ValueError, match="plain tensors"):
            read_state(tmp_path / name)
    assert "executed" not in capsys.readouterr().out
    assert main([str(tmp_path / "nowhere.pth"), str(tmp_path)]) == 1
    assert "does not exist" in capsys.readouterr().err
