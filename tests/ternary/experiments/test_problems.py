"""The stress problems: what each is said to be, and that all optimizers see the same of it."""

from __future__ import annotations

import doctest

import pytest
import torch

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.ternary.experiments import problems
from chimera_lib.ternary.experiments.problems import PROBLEMS, make


@pytest.mark.parametrize("name", PROBLEMS)
def test_loss_is_a_function_of_seed_and_step_whatever_was_asked_before(name: str) -> None:
    one, other = make(name, 3, 4), make(name, 3, 4)
    forwards = [one.loss(step).item() for step in range(4)]
    backwards = [other.loss(step).item() for step in reversed(range(4))][::-1]
    assert forwards == backwards and len(set(forwards)) == 4
    assert one.evaluate() == other.evaluate()
    assert make(name, 5, 4).loss(0).item() != forwards[0]


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_two_seeds_draw_different_things(name: str) -> None:
    one, other, third = make(name, 0, 0), make(name, 1, 0), make(name, 0, 1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters, other.parameters, strict=True))
    assert not torch.equal(one.parameters[0], third.parameters[0])
    assert [tuple(p.shape) for p in one.parameters] == [(8, 10), (8,), (1, 8), (1,)]


def test_each_third_input_of_the_regression_is_zero_and_so_are_its_gradients() -> None:
    problem = make("regression", 0, 0)
    problem.loss(0).backward()
    grad = problem.parameters[0].grad
    assert grad is not None
    assert (grad == 0).all(0).tolist() == [column % 3 == 0 for column in range(10)]


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9])
def test_sparsity_is_the_share_of_zero_inputs(sparsity: float) -> None:
    problem = problems.SparseRelu(0, 0, sparsity)
    x = problem.inputs(4000, problems.generator("step", 0))
    assert (x == 0).float().mean().item() == pytest.approx(sparsity, abs=0.012)  # five standard errors
    assert problem.parameters[1].tolist() == [-0.75] * 8 and problem.teacher[1].tolist() == [-0.75] * 8


def test_most_units_of_sparse_relu_are_silent_at_the_start() -> None:
    problem = make("sparse_relu", 0, 0)
    hidden = torch.nn.functional.linear(problem.held_out, *problem.parameters[:2])  # type: ignore[attr-defined]
    assert 0 < (hidden > 0).float().mean().item() < 0.1


def test_the_noisy_quadratic_is_its_formula() -> None:
    problem = make("noisy_quadratic", 0, 0, noise_scale=2.0)
    drawn = problems.generator("step", 0, 7)
    weights = [p.detach() for p in problem.parameters]
    expected = sum((0.5 * p.square()).mean() + (p * 2 * torch.randn(p.shape, generator=drawn)).mean() for p in weights)
    assert problem.loss(7).item() == pytest.approx(float(expected), rel=1e-5)
    assert problem.evaluate() == pytest.approx(sum(float(0.5 * p.square().mean()) for p in weights))
    still = make("noisy_quadratic", 0, 0, noise_scale=0.0)
    assert still.loss(0).item() == pytest.approx(still.evaluate()) and still.loss(0).item() == still.loss(1).item()


def test_the_saddle_adds_its_term_and_counts_it_from_its_least_value() -> None:
    plain, saddle = make("regression", 0, 0), make("saddle", 0, 0)
    term = sum(float((p**4 - p**2).mean()) for p in map(torch.Tensor.detach, saddle.parameters))
    assert saddle.loss(2).item() - plain.loss(2).item() == pytest.approx(0.01 * term, abs=1e-6)
    assert saddle.evaluate() - plain.evaluate() == pytest.approx(0.01 * (term + 4 * 0.25), abs=1e-6)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_true_objective_is_zero_where_it_should_be_and_never_below(name: str) -> None:
    problem = make(name, 0, 0)
    best = [torch.zeros(1)] * 4 if name == "noisy_quadratic" else problem.teacher  # type: ignore[attr-defined]
    assert problem.evaluate() > 0.01
    with torch.no_grad():
        for parameter, value in zip(problem.parameters, best, strict=True):
            parameter.copy_(value)
    least = problem.evaluate()
    assert least == 0 if name != "saddle" else least > 0
    if name in ("regression", "sparse_relu"):  # the batches' targets are noisy, so that their loss is not zero there
        assert problem.loss(0).item() == pytest.approx(problems.TARGET_NOISE**2, rel=1.0)


def test_training_inputs_are_not_the_held_out_ones() -> None:
    problem = problems.Regression(0, 0)
    seen = torch.cat([problem.inputs(32, problems.generator("step", 0, step)) for step in range(50)])
    assert torch.cdist(seen, problem.held_out).min() > 0.01


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"sparsity": 1.0}, "sparsity 1.0"),
        ({"sparsity": -0.1}, "sparsity -0.1"),
        ({"sparsity": float("nan")}, "sparsity nan"),
        ({"noise_scale": -1.0}, "noise scale -1.0"),
        ({"noise_scale": float("inf")}, "noise scale inf"),
    ],
)
@pytest.mark.parametrize("name", PROBLEMS)
def test_bad_options_are_refused_for_every_problem(name: str, words: dict[str, float], said: str) -> None:
    with pytest.raises(ChimeraError, match=said):
        make(name, 0, 0, **words)


def test_an_unknown_problem_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"'sadle' \(did you mean 'saddle'\?\)"):
        make("sadle", 0, 0)
    assert doctest.testmod(problems).failed == 0
