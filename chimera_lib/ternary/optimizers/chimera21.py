"""Chimera 2.1: Adam whose every coordinate is sped up where gradient and momentum agree, and slowed where they do not.

Source: the agreement-gated optimizer of the Chimera 2.1 framework, read off its published code and derived anew. The
defaults are the published ones; the options mend what a fair comparison with Adam shows to be wrong with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from chimera_lib.ternary.optimizers import agreement_state, diagnostics, gradients, options, paths
from chimera_lib.ternary.optimizers.buckets import SMALL, Bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim.optimizer import ParamsT

__all__ = ["Chimera21"]

PLAIN = (Tensor, torch.nn.Parameter)  # subclasses may not be put end to end


class Chimera21(Optimizer):
    """Adam with decoupled weight decay and an agreement gate.

    With m and v as in Adam::

        a = sign(m_t)·sign(g_t)       ψ ← rho·ψ + (1-rho)a       κ = clip(exp(λψ), κmin, κmax)
        θ ← θ·(1 - lr·weight_decay) - lr·κ·m̂/(√v̂ + ε)

    λ = 0 is torch's AdamW. The published gate takes ψ = 0.287 on pure noise (``gate.noise_floor``), so that it
    also raises the learning rate; ``agreement="previous"`` and ``neutral`` take that away.

    Args:
        params: parameters, named parameters, or groups of them; every option below may differ by group.
        lr: a number of at least 0, or a tensor of one element.
        betas: of m and v, each in [0, 1).
        eps: added to √v̂.
        weight_decay: decoupled.
        rho_psi: rho, in [0, 1].
        lambda_gate: λ.
        kappa: κmin and κmax.
        agreement: ``"current"`` (with the sign of m_t) or ``"previous"`` (of m_{t-1}, which does not hold g_t).
        neutral: ``"off"``; ``"floor"`` or True: κ = exp(λ(ψ - what ψ would be on noise)), for gradients that are
            not zero; ``"mean"``: κ divided by its mean over the parameter.
        zero_gradient: what ψ does where g = 0: ``"standard"`` rho·ψ, ``"freeze"`` ψ, ``"decay"`` ψ·``idle_decay``,
            ``"inertia"`` rho·ψ + (1-rho)·sign(m)².
        cross_gate: ``"noise_ratio"``: κ ← 1 + sigmoid(``gate_sharpness``·(``noise_threshold`` - n))·(κ-1),
            n = √v̂/(|m̂|+ε).
        psi_storage: ``"fp32"`` (float64 for float64 parameters), or ``"int8"``: 127ψ, rounded as ``psi_rounding`` says.
        psi_rounding: ``"stochastic"``, from ``seed``; or ``"as_published"``, to the nearest, which stalls.
        maximize: ascend.
        foreach: put small parameters end to end (None: yes), or go one by one (False). Results agree to rounding.
        compiled: fuse the step by ``torch.compile``; needs a C++ compiler, and says so where there is none.
        capturable: keep ``step`` on the device and read nothing back, for CUDA graphs. Parameters go one by one.
        differentiable: refused; the gate is a step function of the gradient.
        check_finite: look for NaN and infinity before each step: one read of the gradients. None: for parameters on
            the CPU stepped uncompiled; elsewhere the answer has to be waited for, and beside a fused step that one
            read is dear. With False a NaN goes into the state, as it does in torch's AdamW.
        diagnostics: fill ``last_diagnostics`` at each step, at about the price of another step.

    State per parameter: ``step``, ``exp_avg``, ``exp_avg_sq`` (the parameter's dtype, as in torch's AdamW), ``psi``,
    and ``psi_floor`` with ``neutral="floor"``. A state without ``psi`` (an AdamW's) is taken with ψ = 0.

    Raises:
        ValueError: an option out of range.
        BadGradient: at ``step``, for sparse, complex and (see ``check_finite``) NaN or infinite gradients. Parameters
            are then as they were, and so is their state, but for zeros where there was none.

    >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    >>> optimizer = Chimera21([weight], lr=0.1)
    >>> weight.square().sum().backward()
    >>> optimizer.step()
    >>> weight.detach()  # the first agreement is 1: κ = exp(.1·.05)
    tensor([ 0.8995, -1.8995])
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        rho_psi: float = 0.95,
        lambda_gate: float = 0.1,
        kappa: tuple[float, float] = (0.5, 2.0),
        agreement: str = "current",
        neutral: str | bool = "off",
        zero_gradient: str = "standard",
        idle_decay: float = 0.95,
        cross_gate: str = "off",
        noise_threshold: float = 2.0,
        gate_sharpness: float = 4.0,
        psi_storage: str = "fp32",
        psi_rounding: str = "stochastic",
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        compiled: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        check_finite: bool | None = None,
        diagnostics: bool = False,
    ) -> None:
        given = locals()
        defaults = {name: given[name] for name in options.DEFAULTS}
        options.check(defaults)
        self._start()
        super().__init__(params, defaults)

    def _start(self) -> None:
        self._buckets: dict[tuple[Any, ...], Bucket] = {}
        self._changed: dict[
            tuple[Any, ...], tuple[int, ...]
        ] = {}  # parameters that a bucket was last asked for in vain
        self._offsets: dict[Tensor, int] = {}
        self._diagnostics: diagnostics.Diagnostics | None = None

    @property
    def last_diagnostics(self) -> diagnostics.Diagnostics | None:
        """What the last step did, over the groups with ``diagnostics=True``; None before the first."""
        return self._diagnostics

    def state_bytes(self) -> dict[str, int]:
        """Bytes of the state: ``m``, ``v``, ``psi``, ``other`` and ``total``."""
        return diagnostics.state_bytes(self.state.values())

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its options are checked as the constructor's are."""
        if isinstance(param_group, dict):
            for name, value in self.defaults.items():
                param_group.setdefault(name, value)
            options.check(param_group)
        super().add_param_group(param_group)
        self._offsets.clear()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; ψ keeps its own dtype, which ``Optimizer.load_state_dict`` would cast to the parameter's."""

        def last(_: Optimizer, given: dict[str, Any]) -> dict[str, Any]:
            return agreement_state.shield(given)

        hook = self.register_load_state_dict_pre_hook(last)  # runs after those that were registered before
        try:
            super().load_state_dict(state_dict)
        finally:
            hook.remove()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._start()
        for group in self.param_groups:
            for name, value in options.DEFAULTS.items():
                group.setdefault(name, self.defaults.get(name, value))
            for parameter in group["params"]:
                kept = self.state.get(parameter)
                if kept:
                    paths.restore(parameter, group, kept)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: clears the gradients, computes the loss, calls ``backward`` and returns the loss; optional.

        Returns:
            What the closure returned, or None.
        """
        self._accelerator_graph_capture_health_check()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        work = [self._gather(number) for number in range(len(self.param_groups))]
        self._refuse_what_is_not_finite(work)
        for group, (buckets, single) in zip(self.param_groups, work, strict=True):
            for bucket in buckets:
                paths.together(group, bucket)
            for parameter, grad in single:
                paths.alone(group, parameter, grad, self.state[parameter], self._offset(parameter))
        watched = [group for group in self.param_groups if group["diagnostics"]]
        if watched:
            self._diagnostics = diagnostics.measure(watched, self.state)
        return loss

    def _gather(self, number: int) -> tuple[list[Bucket], list[tuple[Tensor, Tensor]]]:
        """The buckets of a group, filled with gradients, and the parameters that go one by one."""
        group = self.param_groups[number]
        one_by_one = group["foreach"] is False or group["capturable"]
        single: list[tuple[Tensor, Tensor]] = []
        small: dict[tuple[Any, ...], list[tuple[Tensor, Tensor]]] = {}
        for parameter, grad in gradients.dense(type(self).__name__, self.param_groups, number):
            state = self.state[parameter]
            if "psi" not in state or (group["neutral"] == "floor" and "psi_floor" not in state):
                paths.initialise(parameter, group, state)
            if one_by_one or parameter.numel() > SMALL or type(parameter) not in PLAIN:
                single.append((parameter, grad))
            else:
                small.setdefault((number, parameter.device, parameter.dtype), []).append((parameter, grad))
        buckets = []
        for key, pairs in small.items():
            bucket = self._fill(key, pairs, negate=group["maximize"])
            if bucket is None:
                single += pairs
            else:
                buckets.append(bucket)
        return buckets, single

    def _fill(self, key: tuple[Any, ...], pairs: list[tuple[Tensor, Tensor]], *, negate: bool) -> Bucket | None:
        """The bucket of these parameters, or None where they differ in their step, or one is there twice.

        None too where other parameters had gradients in the step before: a bucket is made anew only for parameters
        that come twice running, else a network of many experts would copy all its state at every step.
        """
        parameters, grads = zip(*pairs, strict=True)
        if len(set(map(id, parameters))) < max(2, len(parameters)):
            return None
        states = [self.state[p] for p in parameters]
        if any(state.keys() != states[0].keys() for state in states):
            return None
        bucket = self._buckets.get(key)
        if bucket is None or not bucket.holds(parameters, states):
            asked = tuple(map(id, parameters))
            if bucket is not None:
                if self._changed.get(key) != asked:
                    self._changed[key] = asked
                    return None
                bucket.release([self.state[p] for p in bucket.parameters])
            bucket = self._buckets[key] = Bucket(parameters, states, [self._offset(p) for p in parameters])
        bucket.adopt(states)
        if any(bucket.common(name) is None for name in ("step", "psi_floor") if name in bucket.flat):
            return None
        bucket.take(grads, negate=negate)
        return bucket

    def _offset(self, parameter: Tensor) -> int:
        """How many elements come before a parameter's, over all groups."""
        if not self._offsets:
            total = 0
            for group in self.param_groups:
                for each in group["params"]:
                    self._offsets[each] = total
                    total += each.numel()
        return self._offsets[parameter]

    def _refuse_what_is_not_finite(self, work: list[tuple[list[Bucket], list[tuple[Tensor, Tensor]]]]) -> None:
        totals: list[Tensor] = []
        for group, (buckets, single) in zip(self.param_groups, work, strict=True):
            for grad in [bucket.grad for bucket in buckets] + [grad for _, grad in single]:
                wanted = group["check_finite"]
                if wanted or (wanted is None and grad.is_cpu and not group["compiled"]):
                    totals.append(grad.sum(dtype=torch.float64 if grad.dtype == torch.float64 else torch.float32))
        if totals:
            total = totals[0] if len(totals) == 1 else torch.stack([t.to(totals[0]) for t in totals]).sum()
            gradients.check_finite(type(self).__name__, self.param_groups, total)
