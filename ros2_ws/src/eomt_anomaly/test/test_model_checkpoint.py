# SPDX-License-Identifier: MIT
"""Checkpoints on disk: exact round trips, and refusal of everything that is not whole."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from eomt_anomaly.model import Decoder, EomtExt, EomtExtConfig, Label, checkpoint


def tiny(**overrides):
    torch.manual_seed(0)
    return EomtExt(EomtExtConfig.preset("tiny", **overrides)).eval()


@pytest.fixture
def saved(tmp_path):
    """A self-contained checkpoint folder."""
    tiny().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def same(a, b, height=28, width=42):
    pixels = torch.randn(1, 3, height, width)
    with torch.no_grad():
        x, y = a(pixels), b(pixels)
    return all(
        torch.equal(getattr(x, f"{name}_logits"), getattr(y, f"{name}_logits"))
        for name in ("mask", "class", "anomaly")
    )


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


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"decoder": "cross_attention"},
        {"num_register_tokens": 4, "patch_size": 16, "pos_antialias": True},
        {"detail_layer": 1, "upscale_channels": (16, 8), "scale_mask_logits": True},
    ],
)
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
    assert (tmp_path / "a" / "config.json").read_bytes() == (
        tmp_path / "b" / "config.json"
    ).read_bytes()  # with the hash


def test_card_and_calibration_are_kept(saved):
    assert "EoMT-EXT" in (saved / "README.md").read_text()
    (saved / "README.md").write_text("mine")
    (saved / "calibration.json").write_text("{}")
    EomtExt.from_pretrained(saved).save_pretrained(saved)
    assert (saved / "README.md").read_text() == "mine" and (saved / "calibration.json").read_text() == "{}"
    assert sorted(p.name for p in saved.iterdir()) == [
        "README.md",
        "calibration.json",
        "config.json",
        "model.safetensors",
    ]


def test_config_round_trip_through_json():
    config = EomtExtConfig.preset(
        "large",
        decoder="cross_attention",
        labels=[Label(0, "road", (128, 64, 128), drivable=True), Label(1, "car", (0, 0, 142), thing=True)],
    )
    again = EomtExtConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config and again.decoder is Decoder.CROSS_ATTENTION and again.labels[0].drivable


# ---- refusals


@pytest.mark.parametrize(
    "edit, named",
    [
        (lambda s: s.pop("class_head.bias"), "missing class_head.bias"),
        (lambda s: s.update({"class_head.extra": torch.zeros(1)}), "not known class_head.extra"),
        (lambda s: s.update({"mask_head.fc1.weight": torch.zeros(2, 2)}), "mask_head.fc1.weight has shape"),
        (lambda s: s.update({"decoder.query.weight": torch.zeros(9, 32)}), "decoder.query.weight has shape"),
        (lambda s: s.pop("backbone.cls_token"), "missing backbone.cls_token"),
        (lambda s: s["decoder.norm.bias"].fill_(float("nan")), "NaN or infinity in decoder.norm.bias"),
        (
            lambda s: s.update({"class_head.bias": torch.zeros(20, dtype=torch.int64)}),
            "class_head.bias is torch.int64",
        ),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("backbone.")], "holds no backbone"),
    ],
)
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


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"surprise": 1}, "surprise"),
        ({"format": "other/9"}, "format"),
        ({"weights_sha256": None}, "weights_sha256"),
        ({"decoder": "sideways"}, "sideways"),
        ({"hidden_size": -3}, "hidden_size"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"num_heads": 5}, "num_heads"),
        ({"labels": []}, "labels"),
        ({"labels": [{"id": 0}]}, "config.json"),
        ({"labels": 3}, "config.json"),
        ({"detail_layer": 99}, "detail_layer"),
        ({"backbone": {"source": "../../etc/passwd", "sha256": "0" * 64}}, "plain name"),
        ({"backbone": {"source": "/etc/passwd", "sha256": "0" * 64}}, "plain name"),
        ({"backbone": {"source": "a/../b", "sha256": "0" * 64}}, "plain name"),
        ({"backbone": {"source": "x", "sha256": "0"}}, "64 hex"),
        ({"backbone": {"source": "x"}}, "source, sha256"),
        ({"backbone": "x"}, "source, sha256"),
    ],
)
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


def test_the_hub_is_asked_only_on_request(saved, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    calls = []
    monkeypatch.setattr(hub, "snapshot_download", lambda *args, **kw: calls.append((args, kw)) or str(saved))
    EomtExt.from_pretrained(saved, allow_download=True)  # a folder on disk stays a folder
    with pytest.raises(FileNotFoundError):
        EomtExt.from_pretrained("owner/name")
    assert calls == []
    EomtExt.from_pretrained("owner/name", allow_download=True, revision="abc")
    (repository,), options = calls[0]
    assert repository == "owner/name" and options["revision"] == "abc"
    assert all(name.endswith((".json", ".safetensors", ".md")) for name in options["allow_patterns"])
