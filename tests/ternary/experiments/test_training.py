"""A recipe decides its run; a run that was interrupted ends as the one that was not; logs say what was evaluated."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from chimera_lib import devices
from chimera_lib.errors import ChimeraError, Diverged, UnknownName
from chimera_lib.ternary.experiments import cifar_batches, log, recipe, training
from chimera_lib.ternary.experiments.recipe import Recipe
from chimera_lib.ternary.quantizers.activations import ActivationQuantizer
from chimera_lib.ternary.quantizers.statistics import by_layer, pooled

if TYPE_CHECKING:
    from pathlib import Path

SPLITS = cifar_batches.synthetic(64, 32)
TINY = Recipe(epochs=2, batch_size=16, max_batches=2, eval_batch_size=16, warmup=3)


def run(chosen: Recipe, path: Path | None = None, **options: Any) -> training.Outcome:
    with log.Log(path, "train-resnet", schema="resnet") as lines:
        return training.train(chosen, SPLITS, lines, **options)


def weights(outcome: training.Outcome) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in outcome.model.state_dict().values()])


def test_the_same_recipe_gives_the_same_network() -> None:
    one = run(TINY)
    assert torch.equal(weights(one), weights(run(TINY)))
    assert not torch.equal(weights(one), weights(run(replace(TINY, seed=1))))


@pytest.mark.parametrize(
    "chosen",
    [
        replace(TINY, optimizer="chimera21_int8", controller="bang-bang", controller_frequency="batch"),
        replace(TINY, optimizer="adamw", mode="lsq"),
        replace(TINY, optimizer="sgd_momentum", mode="fp32_baseline", learning_rate=0.1),
    ],
    ids=lambda chosen: chosen.optimizer,
)
def test_an_interrupted_run_ends_as_the_uninterrupted_one(
    chosen: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(chosen)
    place = tmp_path / "c.safetensors"
    real = training.Run.epoch

    def cut(self: training.Run, epoch: int) -> training.Score:
        if epoch == 1:
            raise KeyboardInterrupt
        return real(self, epoch)

    with monkeypatch.context() as patched:
        patched.setattr(training.Run, "epoch", cut)
        with pytest.raises(KeyboardInterrupt):
            run(chosen, checkpoint=place)
    said: list[Any] = []
    rest = run(chosen, checkpoint=place, report=said.append)
    assert "holds 1 of 2 epochs" in said[0] and len(said) == 2
    assert torch.equal(weights(whole), weights(rest))
    assert whole.test == rest.test and whole.train == rest.train
    again = run(chosen, checkpoint=place, report=said.append)  # a finished run is read, not repeated
    assert torch.equal(weights(whole), weights(again)) and again.test == whole.test
    assert list(tmp_path.iterdir()) == [place]


def test_a_checkpoint_of_another_run_or_kind_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "c.safetensors"
    run(replace(TINY, epochs=1), checkpoint=place)
    with pytest.raises(ChimeraError, match=r"of another run \(epochs 1, now 2\)"):
        run(TINY, checkpoint=place)
    with pytest.raises(ChimeraError, match="trained on synthetic, now other"):
        training.train(
            replace(TINY, epochs=1),
            replace(SPLITS, name="other"),
            log.Log(None, "x", schema="resnet"),
            checkpoint=place,
        )
    place.write_bytes(place.read_bytes()[:5000])
    with pytest.raises(ChimeraError, match="no checkpoint that can be read"):
        run(TINY, checkpoint=place)


def test_the_log_holds_batches_epochs_evaluations_and_the_end(tmp_path: Path) -> None:
    chosen = replace(TINY, controller="bang-bang", controller_frequency="batch", controller_affects="alpha_override")
    outcome = run(chosen, tmp_path / "log.jsonl")
    records = log.read(tmp_path / "log.jsonl")
    kinds = [record["record_type"] for record in records]
    assert kinds == ["batch", "batch", "epoch", "eval"] * 2 + ["final", "summary"]
    assert [r["step"] for r in records if r["record_type"] == "batch"] == [1, 2, 3, 4]
    batch, evaluated, final = records[1], records[7], records[8]
    assert batch["controller_frequency"] == "batch" and batch["controller_affects"] == "alpha_override"
    assert records[0]["controller_error"] is None  # nothing had been seen before the first batch
    assert batch["controller_error"] == pytest.approx(records[0]["zero_ratio"] - batch["target_zero_ratio"], abs=0.05)
    assert batch["alpha_next_mean"] == pytest.approx(batch["alpha_used"])  # it acts in the very next forward
    assert batch["target_zero_ratio"] == pytest.approx(0.63038, abs=1e-4)
    assert batch["split"] == "train" and batch["batch_idx"] == 1 and batch["lr"] == chosen.rate(1, 4)
    for record in records:
        assert record["zero_ratio"] == record["global_zero_ratio"] and record["alpha_used"] == record["alpha_used_mean"]
    assert evaluated["split"] == "test" and evaluated["test_accuracy"] == outcome.test.accuracy
    shares = pooled(by_layer(outcome.model).values()).record()  # of the evaluation itself
    assert evaluated["global_zero_ratio"] == final["zero_ratio"] == shares["zero_ratio"]
    assert final["effective_bits"] == shares["effective_bits"]
    assert records[-1]["step_time_ms"] > 0
    assert records[-1]["step_time_ms_after_warmup"] == pytest.approx(outcome.median_step_ms)


def test_a_full_precision_run_has_no_ternary_fields(tmp_path: Path) -> None:
    run(replace(TINY, mode="fp32_baseline", epochs=1), tmp_path / "log.jsonl")
    record = log.read(tmp_path / "log.jsonl")[-1]
    assert record["zero_ratio"] is None and record["alpha"] is None and record["target_bits"] is None
    assert record["rho_psi"] == 0.95 and record["mode"] == "fp32_baseline"


def test_evaluating_changes_nothing() -> None:
    model = recipe.network(TINY)
    run_ = training.Run(TINY, SPLITS, log.Log(None, "x", schema="resnet"), "cpu")
    run_.epoch(0)
    before = {name: value.clone() for name, value in run_.model.state_dict().items()}
    score = run_.test(0)
    assert score.n == 32 and run_.model.training
    assert all(torch.equal(value, before[name]) for name, value in run_.model.state_dict().items())
    assert len(before) == len(model.state_dict())


def test_all_modes_start_from_the_same_weights_and_see_the_same_images() -> None:
    plain, ternary = (recipe.network(replace(TINY, mode=mode)) for mode in ("fp32_baseline", "chimera"))
    other = dict(ternary.named_parameters())
    assert all(torch.equal(value, other[name]) for name, value in plain.named_parameters())


def test_activations_are_quantized_in_full_precision_too() -> None:
    model = recipe.network(replace(TINY, mode="fp32_baseline"))
    plain = recipe.network(replace(TINY, mode="fp32_baseline", activation="none"))
    hooked = [name for name, layer in model.named_modules() if layer._forward_pre_hooks]
    ternary = [n for n, m in recipe.network(TINY).named_modules() if isinstance(getattr(m, "activation", None), ActivationQuantizer)]  # fmt: skip  # noqa: E501
    assert hooked == ternary and len(hooked) == 18
    x, _ = next(cifar_batches.test_batches(SPLITS, 4))
    one, other = model.eval()(x), plain.eval()(x)
    assert not torch.equal(one, other) and torch.allclose(one, other, atol=0.1 * float(other.detach().abs().max()))


def test_a_run_that_diverges_says_so() -> None:
    with pytest.raises(Diverged, match=r"sgd_momentum, fp32_baseline: the loss is (nan|inf) at step"):
        run(replace(TINY, optimizer="sgd_momentum", mode="fp32_baseline", learning_rate=1e9, max_batches=4))


def test_schedules() -> None:
    rates = [TINY.rate(step, 8) for step in range(8)]
    assert rates[1] == TINY.learning_rate == max(rates) and rates[0] == rates[1] / 2
    assert rates[2:] == sorted(rates[2:], reverse=True) and 0 < rates[-1] < 0.2 * rates[1]
    assert {replace(TINY, schedule="constant").rate(step, 8) for step in range(8)} == {TINY.learning_rate}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "fp16"}, "unknown mode 'fp16'"),
        ({"optimizer": "adam"}, "unknown optimizer 'adam'"),
        ({"activation": "int4"}, "unknown activation quantizer"),
        ({"learning_rate": -1.0}, "learning rate -1.0"),
        ({"learning_rate": float("nan")}, "learning rate nan"),
        ({"weight_decay": -1.0}, "weight decay -1.0"),
        ({"batch_size": 0}, "batch size 0"),
        ({"target_bits": 1.6}, "log2 3"),
        ({"target_bits": 0.5, "target_branch": "dense"}, "the dense branch has 1"),
        ({"controller": "pid"}, "unknown controller"),
        ({"controller_frequency": "step"}, "unknown controller frequency"),
        ({"schedule": "cosine"}, "unknown schedule"),
        ({"alpha_target": -1.0, "mode": "ttq"}, r"alpha_target=-1\.0"),
        ({"scale": "best", "mode": "ttq"}, "unknown scale 'best'"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ChimeraError, match=said):
        Recipe(**options)


def test_devices() -> None:
    devices.check_device("cpu")
    with pytest.raises(UnknownName, match="unknown device 'tpu'"):
        devices.check_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ChimeraError, match="sees no CUDA GPU"):
            devices.check_device("cuda")


@pytest.mark.parametrize("frequency", ["batch", "epoch"])
@pytest.mark.parametrize("affects", ["alpha_target", "alpha_override"])
def test_the_evaluation_has_the_thresholds_of_the_training(frequency: str, affects: str, tmp_path: Path) -> None:
    options = {"controller": "bang-bang", "controller_frequency": frequency, "controller_affects": affects}
    run(replace(TINY, warmup=0, **options), tmp_path / "log.jsonl")
    records = log.read(tmp_path / "log.jsonl")
    for place, record in enumerate(records):
        if record["record_type"] == "eval":
            assert record["alpha_used"] == records[place - 1]["alpha_used"] == records[place - 2]["alpha_used"]
    assert records[0]["alpha_used"] == 0.7
    assert len({record["alpha_used"] for record in records}) > 1  # it did act


def test_an_evaluation_that_is_not_finite_is_a_divergence() -> None:
    with pytest.raises(Diverged, match="the test loss is nan"):
        run(replace(TINY, epochs=1, max_batches=1, mode="fp32_baseline", optimizer="adamw", learning_rate=1e30))
