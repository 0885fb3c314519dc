# SPDX-License-Identifier: MIT
"""However a run is cut, into processes or into pieces of time, it is the same run."""

import fit
import pytest
from recipe_runs import largest_difference, metrics_of, run, shrunk, weights_at

STEPS = 4
LR = 5e-4
KEEP_ALL = """
trainer:
  callbacks:
    - class_path: eomt_training.ema.ExponentialAverage
      init_args: {decay: 0.9}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {save_top_k: -1, every_n_train_steps: 2}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, camvid_root, drives_root, stamps_root):
    """Arguments of a run of four steps that keeps its state every two, with all that is drawn at random."""
    root = tmp_path_factory.mktemp("runs")
    (root / "keep.yaml").write_text(KEEP_ALL)

    def arguments(name, **options):
        common = {"trainer__max_steps": STEPS, "trainer__val_check_interval": STEPS, **options}
        made = shrunk(camvid_root, drives_root, stamps_root, root / name, **common)
        return [
            made[0],
            *made[1:3],
            "--config",
            str(root / "keep.yaml"),
            *made[3:],
        ], root / name / "version_0"

    return arguments


@pytest.fixture(scope="module")
def whole(recipe):
    """The run as one process makes it, without a break."""
    arguments, folder = recipe("whole", data__batch_size=4)
    fit.main(arguments)
    return folder


def assert_same_numbers(folder, whole, steps):
    """Losses and validation as in the whole run, from step ``steps[0]`` on, and not all the same."""
    found, expected = metrics_of(folder), metrics_of(whole)
    for name in [n for n in expected if n.startswith("train/")]:
        assert found[name] == pytest.approx([expected[name][i] for i in steps], rel=1e-5), name
    for name in [n for n in expected if n.startswith("val/")]:
        assert found[name] == pytest.approx(expected[name], abs=1e-2), name
    assert len(set(expected["train/loss"])) == STEPS and "val/auprc_eomt_ext" in expected


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_double_batch(recipe, whole):
    """Three validation frames: one process has one more than the other."""
    arguments, folder = recipe("two", data__batch_size=2, trainer__devices=2, trainer__strategy="ddp")
    done = run("fit.py", *arguments, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_numbers(folder, whole, range(STEPS))
    for mine, theirs in zip(weights_at(folder, STEPS), weights_at(whole, STEPS)):
        assert largest_difference(mine, theirs) < 0.01 * LR
    moved = largest_difference(weights_at(whole, STEPS)[0], weights_at(whole, 2)[0])
    assert moved > 0.5 * LR, "the comparison means something only where weights move"


def test_a_checkpoint_is_validated_and_tested_from_the_command_line(recipe, whole, capsys):
    """`validate` finds what the run found; `test` measures all frames of a split of its own."""
    (last,) = (whole / "checkpoints").glob(f"*step={STEPS}.ckpt")

    def measured(command, **options):
        arguments, folder = recipe(command, ckpt_path=last, **options)
        fit.main([command, *arguments[1:]])
        return {name: values[-1] for name, values in metrics_of(folder).items() if "/" in name}

    found, expected = measured("validate"), metrics_of(whole)
    assert found == pytest.approx({name: expected[name][-1] for name in found}, abs=1e-4)
    assert {"val/miou", "val/auprc_eomt_ext", "val/fpr95_rba"} <= found.keys()
    tested = measured("test", data__test_split="train")
    assert {name.replace("test/", "val/") for name in tested} == found.keys()
    assert tested["test/auprc_eomt_ext"] != pytest.approx(found["val/auprc_eomt_ext"], abs=1e-3)


def test_a_resumed_run_is_the_run_it_goes_on_with(recipe, whole):
    (half_way,) = (whole / "checkpoints").glob("*step=2.ckpt")
    arguments, folder = recipe("resumed", data__batch_size=4, ckpt_path=half_way)
    fit.main(arguments)
    assert_same_numbers(folder, whole, range(2, STEPS))
    for mine, theirs in zip(weights_at(folder, STEPS), weights_at(whole, STEPS)):
        assert largest_difference(mine, theirs) < 1e-6 * LR
