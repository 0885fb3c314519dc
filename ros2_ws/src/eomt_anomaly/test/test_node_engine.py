# SPDX-License-Identifier: MIT
"""The node with the real engine and a tiny random network: checkpoints good, missing and broken."""

import gc
import json
import os
import signal
import subprocess
import sys
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("eomt_anomaly_msgs", reason="build ros2_ws and source its install/setup.bash first")

import torch
from diagnostic_msgs.msg import DiagnosticArray
from node_rig import HERE, SIZE, detector, next_domain, picture

from eomt_anomaly.alerts import Level, Reason
from eomt_anomaly.model import EomtExt, EomtExtConfig, Label
from eomt_anomaly.ros.engines import calibrated_on, make_engine, off_size
from eomt_anomaly.ros.fallback import EngineSettings
from eomt_anomaly.ros.parameters import GENERAL
from eomt_anomaly.ros.qos import LATCHED
from eomt_anomaly.runtime.backends import BACKENDS
from eomt_anomaly.runtime.checkpoints import default_checkpoint
from eomt_anomaly_msgs.msg import AnomalyHeatmap, ModelInfo, SemanticMask


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder with a tiny random network that calls everything road."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    labels = (Label(0, "sky", (1, 2, 3)), Label(1, "road", (4, 5, 6), drivable=True))
    model = EomtExt(EomtExtConfig.preset("tiny", labels=labels, image_size=56))
    with torch.no_grad():
        model.class_head.bias[1] += 10.0
    model.save_pretrained(folder)
    (folder / "calibration.json").write_text(json.dumps({"score": "eomt_ext", "threshold": 0.999,
                                                         "method": "test"}))
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """The same network as an ONNX graph."""
    pytest.importorskip("onnxscript", reason="pip install -r requirements/export.txt")
    pytest.importorskip("openvino", reason="pip install -r requirements/export.txt")
    from eomt_training.export import export_folder

    folder = tmp_path_factory.mktemp("export") / "exported"
    export_folder(checkpoint, folder, (56, 70), checks=("openvino",))
    return folder


@pytest.mark.parametrize("kind, backend", [
    ("checkpoint", "torch"), pytest.param("exported", "openvino", marks=pytest.mark.slow)])
def test_pictures_go_through_the_real_network(request, kind, backend):
    checkpoint = request.getfixturevalue(kind)
    with detector(fake=False, checkpoint=checkpoint, device="cpu", precision="fp32", backend=backend,
                  monitor__clear_frames=3, front__warmup_size=f"[{SIZE[1]}, {SIZE[0]}]", max_age=5.0,
                  stale_timeout=10.0) as (process, client, log):
        masks = client.listen("/detector/front/semantic_mask", SemanticMask)
        heats = client.listen("/detector/front/anomaly_heatmap", AnomalyHeatmap)
        info = client.listen("/detector/model_info", ModelInfo, LATCHED)
        client.level(Level.CLEAR, seconds=60, meanwhile=lambda: client.send(picture()), every=0.1)
        client.until(lambda: masks and heats and info, meanwhile=lambda: client.send(picture()))
        classes = np.frombuffer(masks[-1].mask.data, np.uint8)
        anomaly = np.frombuffer(heats[-1].heatmap.data, np.float32)
        assert classes.shape == anomaly.shape == (SIZE[0] * SIZE[1],) and (classes == 1).all()
        assert (0 <= anomaly).all() and (anomaly < 1).all()
        assert info[-1].class_names == ["sky", "road"] and info[-1].threshold == pytest.approx(0.999)
        assert len(info[-1].checkpoint_sha256) == 64 and info[-1].device == "cpu"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()


def test_jpeg_is_decoded_on_the_cpu_where_the_gpu_cannot_and_that_is_told(checkpoint):
    with detector(fake=False, checkpoint=checkpoint, device="cpu", precision="fp32", gpu_jpeg=True,
                  front__image_topic="front/image_raw/compressed", monitor__clear_frames=3, max_age=5.0,
                  stale_timeout=10.0) as (_, client, log):
        box = client.listen("/diagnostics", DiagnosticArray)
        client.level(Level.CLEAR, seconds=60, meanwhile=lambda: client.send_jpeg(picture()), every=0.1)

        def told():
            statuses = [status for message in box for status in message.status if "engine" in status.name]
            values = {pair.key: pair.value for status in statuses[-1:] for pair in status.values}
            return int(values.get("jpeg_on_cpu", 0)) >= 3 and values
        values = client.until(told, meanwhile=lambda: client.send_jpeg(picture()))
        assert values["jpeg_on_gpu"] == "0" and "runs on the CPU" in values["jpeg_on_cpu_because"]
        assert log.read_text().count("JPEG pictures are decoded on the CPU") == 1


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device")])])
def test_a_closed_engine_has_given_its_memory_back(checkpoint, device):
    gc.collect()
    before = torch.cuda.memory_reserved() if device == "cuda" else 0
    engine = make_engine(EngineSettings(str(checkpoint), device=device))
    ticket = engine.submit([picture()])
    network = weakref.ref(engine._pipeline.setup.network)
    engine.close()
    assert network() is None
    if device == "cuda":
        assert torch.cuda.memory_reserved() <= before
    assert engine.result(ticket)[0].class_map.shape == SIZE      # what was finished is still there
    assert engine.labels and engine.threshold == pytest.approx(0.999)


CONFIGURED = """
import rclpy
from eomt_anomaly.ros.detector import Detector
from node_rig import FakeEngine
rclpy.init(args="--ros-args -p checkpoint:=x -p cameras:=[front,rear,left] -p front.warmup_size:=[80,60] \
                 -p rear.warmup_size:=[64,48]".split())
node = Detector(lambda settings: print(settings.shapes) or FakeEngine(settings))
node.trigger_configure()
node.destroy_node()
"""


def test_the_engine_is_told_the_sizes_of_the_pictures_to_come(checkpoint):
    """On which backend="auto" measures: height, width, of the cameras that name one."""
    path = os.pathsep.join([str(HERE), *filter(None, sys.path)])
    done = subprocess.run([sys.executable, "-c", CONFIGURED], timeout=60, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": path, "ROS_DOMAIN_ID": str(next_domain())})
    assert done.stdout.splitlines() == ["((48, 64), (60, 80))"], done.stderr
    with pytest.raises(ValueError, match="shapes is .*0, 5"):        # handed on to the engine, which checks
        make_engine(EngineSettings(str(checkpoint), device="cpu", shapes=((0, 5),)))


def test_the_backends_that_the_node_offers_are_the_engines():
    assert next(spec.choices for spec in GENERAL if spec.name == "backend") == ("auto", *BACKENDS)


def test_the_origin_of_the_threshold_is_told_with_its_size():
    engine = SimpleNamespace(short_side=252, calibration=json.loads(
        (default_checkpoint() / "calibration.json").read_text()))
    text = calibrated_on(engine)
    for words in ("drives val", "short side 476 px", engine.calibration["date"], "conformal risk control",
                  "at most 0.3 %", "runs at 252 px, for which it is not calibrated"):
        assert words in text
    assert "476 px" in off_size(engine, -1.0) and "252 px" in off_size(engine, -1.0)
    assert off_size(engine, 0.5) == ""                  # the user's own
    engine.short_side = 476
    assert off_size(engine, -1.0) == "" and "not calibrated" not in calibrated_on(engine)
    engine.calibration = {}
    assert off_size(engine, -1.0) == "" and "a short side it does not name" in calibrated_on(engine)


def test_a_missing_or_broken_checkpoint_is_named_and_never_clear(checkpoint, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text((checkpoint / "config.json").read_text())
    (broken / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:5000])
    for folder in (broken, tmp_path / "absent"):
        with detector(fake=False, checkpoint=folder) as (process, client, log):
            diagnostics = client.listen("/diagnostics", DiagnosticArray)
            alert = client.level(Level.UNKNOWN, reasons=Reason.INACTIVE, seconds=60)
            assert alert.alerts == []
            client.until(lambda box=diagnostics: any(
                "cannot configure" in status.message for message in box for status in message.status))
            client.spin(0.5)
            assert {m.level for m in client.messages["/detector/front/alerts"]} == {Level.UNKNOWN}
            assert process.poll() is None and folder.name in log.read_text()
            assert "Traceback" not in log.read_text()


def test_a_network_whose_output_is_not_finite_is_never_clear(checkpoint, tmp_path):
    model = EomtExt.from_pretrained(checkpoint)
    with torch.no_grad():
        for layer in (model.anomaly_head.fc1, model.anomaly_head.fc2):
            layer.weight *= 1e30                       # finite numbers whose products are not
    model.save_pretrained(tmp_path, dtype=torch.float32)
    (tmp_path / "calibration.json").write_bytes((checkpoint / "calibration.json").read_bytes())
    with detector(fake=False, checkpoint=tmp_path, device="cpu", precision="fp32", max_age=5.0,
                  stale_timeout=10.0) as (process, client, log):
        client.level(Level.UNKNOWN, reasons=Reason.INVALID_OUTPUT, meanwhile=lambda: client.send(picture()),
                     every=0.2)
        diagnostics = client.listen("/diagnostics", DiagnosticArray)
        client.until(lambda: any("not finite" in s.message for m in diagnostics for s in m.status),
                     meanwhile=lambda: client.send(picture()), every=0.2)
        assert {m.level for m in client.messages["/detector/front/alerts"]} == {Level.UNKNOWN}
        assert process.poll() is None
