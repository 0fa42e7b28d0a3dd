"""An audit as data and as words: ``report.json``, the verdict, and the lines that the command prints.

``report.json`` holds

- ``verdict``: one sentence; ``exit_code``: what the command ended with
- ``command``, ``date``, ``machine``, ``versions``, ``revision``: what made it
- ``model``: ``name``, ``sha256`` of the network, ``input_shape`` [C, H, W], ``normalise``, ``left_out`` (the operator
  behind the logits, or empty)
- ``images``: ``folder``, ``n`` measured, ``duplicates``, ``skipped`` and ``converted`` (name -> reason), ``resized``
- ``backends``: a list of ``name``, ``library``, ``version``, ``kernels``, ``bit_class`` (equal numbers: equal logits to
  the bit on all images; 0: lost), ``largest_difference`` (of a gap, from the first backend's), ``answered`` (images);
  ``missing`` and ``lost``: name -> reason
- ``conflicts``: ``count``, ``rate``, ``ci`` (exact, 95 %), ``images``: a list of ``name``, ``classes`` (backend ->
  class), ``margin``, ``spread``, ``confirmed`` (freshly started backends disagree too)
- ``noise``: ``unit`` (99th percentile of the spread of the gap over the backends; logits), ``largest``,
  ``pairwise_median`` and ``pairwise_99`` (of two backends' gap difference, backends of equal bits left out; null
  where all are equal)
- ``margins``: ``smallest``, ``median``, ``in_noise`` (smallest over the unit; null without noise), ``within`` ("1",
  "10", "100" -> images nearer than so many units), ``nearest``: a list as of conflicts, smallest margin first
- ``expected``: null, or ``rate``, ``ci``, ``k``, ``density``, ``spread`` (see ``rate.Extrapolated``)
- ``made``: null where no search was asked for, else ``searches``, ``found``, ``confirmed``, ``images``: a list of
  ``name``, ``found``, ``classes``, ``linf``, ``l0``, ``evaluations``, ``oracle_calls``, ``confirmed``, ``file``
- ``class_names``: names by class number, or null
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import recorded
from chimera_lib.images.audit.reading import Folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimera_lib.images.audit.reading import Pictures
    from chimera_lib.images.audit.result import Audit, Made

NEAREST = 8
Report = dict[str, Any]


def describe(found: Audit, pictures: Pictures, *, searched: int = 0, **context: Any) -> Report:
    """The report, JSON-able; ``context`` may hold ``model``, ``normalise``, ``command`` and ``class_names``."""
    folder = pictures if isinstance(pictures, Folder) else None
    report: Report = {
        "command": context.get("command"),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": recorded.machine(),
        "versions": recorded.versions(),
        "revision": recorded.revision(),
        "model": {
            "name": context.get("model", ""),
            "sha256": found.network.sha256,
            "input_shape": list(found.network.input_shape),
            "normalise": context.get("normalise", "none"),
            "left_out": found.network.left_out,
        },
        "images": {
            "folder": str(folder.root) if folder else None,
            "n": len(found.names),
            "duplicates": found.duplicates,
            "skipped": folder.skipped if folder else {},
            "converted": folder.converted if folder else {},
            "resized": folder.resize if folder else False,
        },
        "backends": _backends(found),
        "missing": found.missing,
        "lost": found.lost,
        "conflicts": _conflicts(found),
        "noise": _noise(found),
        "margins": _margins(found),
        "expected": _expected(found),
        "made": _made(found.made) if searched else None,
        "class_names": context.get("class_names"),
    }
    return {"verdict": verdict(report), **report}


def _backends(found: Audit) -> list[dict[str, Any]]:
    classes = found.bit_classes
    rows = []
    for (name, facts), gaps in zip(found.backends.items(), found.gaps, strict=True):
        away = np.abs(gaps - found.gaps[0])
        away = away[np.isfinite(away)]
        rows.append(
            {
                "name": name,
                "library": str(facts.get("library", "")),
                "version": str(facts.get("version", "")),
                "kernels": str(facts.get("kernels", "")),
                "bit_class": classes[name],
                "largest_difference": float(away.max()) if len(away) else None,
                "answered": int(np.isfinite(gaps).sum()),
            }
        )
    return rows


def _image(found: Audit, number: int) -> dict[str, Any]:
    return {
        "name": found.names[number],
        "classes": found.said(number),
        "margin": float(found.margins[number]),
        "spread": float(found.spreads[number]),
    }


def _conflicts(found: Audit) -> Report:
    numbers = np.flatnonzero(found.conflict)
    images = [{**_image(found, i), "confirmed": found.names[i] in found.confirmed} for i in numbers.tolist()]
    return {
        "count": len(images),
        "rate": len(images) / len(found.names),
        "ci": list(found.interval),
        "images": images,
    }


def _noise(found: Audit) -> Report:
    pairwise = found.pairwise()
    quantiles = [float(np.quantile(pairwise, q)) for q in (0.5, 0.99)] if len(pairwise) else [None, None]
    return {
        "unit": found.noise,
        "largest": float(found.spreads.max()),
        "pairwise_median": quantiles[0],
        "pairwise_99": quantiles[1],
    }


def _margins(found: Audit) -> Report:
    smallest = float(found.margins.min())
    return {
        "smallest": smallest,
        "median": float(np.median(found.margins)),
        "in_noise": smallest / found.noise if found.noise else None,
        "within": {str(factor): count for factor, count in found.within().items()},
        "nearest": [_image(found, i) for i in found.nearest(NEAREST)],
    }


def _expected(found: Audit) -> Report | None:
    expected = found.extrapolated
    if expected is None:
        return None
    values = expected._asdict()
    return {"rate": values.pop("rate"), "ci": list(values.pop("interval")), **values}


def _made(made: Sequence[Made]) -> Report:
    images = [
        {
            "name": one.name,
            "found": one.image is not None,
            "classes": one.predictions,
            "linf": one.linf,
            "l0": one.l0,
            "evaluations": one.evaluations,
            "oracle_calls": one.oracle_calls,
            "confirmed": one.confirmed,
            "file": f"made/{number:03d}.png" if one.image is not None else None,
        }
        for number, one in enumerate(made)
    ]
    return {
        "searches": len(images),
        "found": sum(one["found"] for one in images),
        "confirmed": sum(one["confirmed"] for one in images),
        "images": images,
    }


def one_in(rate: float) -> str:
    """A small share as a person says it: ``1 in 3,000,000``, to one or two digits."""
    if rate <= 0:
        return "none"
    number = 1 / rate
    digits = 10 ** max(0, int(np.floor(np.log10(number))) - 1)
    return f"1 in {round(number / digits) * digits:,.0f}"


def verdict(report: Report) -> str:
    """One sentence on the backends that answered everything, and one each on those lost and on searches, if any."""
    images, conflicts = report["images"]["n"], report["conflicts"]["count"]
    whole = sum(one["answered"] == images for one in report["backends"])
    if conflicts:
        text = f"{conflicts} of {images} images {'gets' if conflicts == 1 else 'get'} different classes"
        text += f" from these {len(report['backends'])} backends."
    elif not report["noise"]["largest"]:
        text = f"These {whole} backends give the same bits on all {images} images: nothing here can disagree."
    else:
        times = report["margins"]["in_noise"]
        text = (
            f"These {whole} backends agree on all {images} images; the nearest to a conflict has a margin of "
            f"{times:,.0f} times their noise."
        )
    for one in report["backends"]:
        if one["answered"] < images:
            text += f" {one['name']} was lost and answered for {one['answered']} of them only."
    made = report["made"]
    if made and made["confirmed"]:
        largest = max(one["linf"] for one in made["images"] if one["confirmed"])
        text += (
            f" A conflict can be made from {made['confirmed']} of {made['searches']} images searched from, "
            f"by changing values by at most {largest} of 255."
        )
    elif made and made["found"]:
        text += (
            f" Searches made {made['found']} images on which the backends differed, but freshly started ones agree "
            f"on all of them: no conflict is confirmed."
        )
    elif made and not made["searches"]:
        text += " No search was started: every image conflicts already."
    elif made:
        text += f" No conflict could be made from the {made['searches']} images searched from."
    return text


def said(report: Report, classes: dict[str, int]) -> str:
    """Who says what of one image: ``openblas, mkl: cat · blis: dog``."""
    named = report["class_names"]
    groups: dict[int, list[str]] = {}
    for backend, number in classes.items():
        groups.setdefault(number, []).append(backend)
    if len(groups) == 1:
        groups = {number: ["all"] for number in groups}
    return " · ".join(
        f"{', '.join(who)}: {named[number] if named and number < len(named) else f'class {number}'}"
        for number, who in groups.items()
    )


def left_out(report: Report) -> str:
    """What is to be known of an operator behind the logits; empty where there is none."""
    name = report["model"]["left_out"]
    if not name:
        return ""
    return (
        f"The model's final {name} was left out: classes are those of the logits. In float32 it can round logits "
        "that differ by their last digits to equal values, of which the lowest class wins."
    )


def lines(report: Report) -> list[str]:
    """What the command prints."""
    conflicts, noise, expected = report["conflicts"], report["noise"], report["expected"]
    low, high = conflicts["ci"]
    out = [report["verdict"]]
    out += [f"  {one['name']}: {said(report, one['classes'])}" for one in conflicts["images"][:20]]
    if len(conflicts["images"]) > 20:
        out.append(f"  and {len(conflicts['images']) - 20} more, all in the report")
    out.append(
        f"conflict rate {conflicts['rate']:.4f} (95 % interval {low:.4f} to {high:.4f}, n = {report['images']['n']})"
    )
    if expected:
        low, high = expected["ci"]
        out.append(f"expected from margins and noise: {one_in(expected['rate'])} ({one_in(high)} to {one_in(low)})")
    within = ", ".join(f"{count} within {factor}x" for factor, count in report["margins"]["within"].items())
    out.append(
        f"noise {noise['unit']:.1e} logits; smallest margin {report['margins']['smallest']:.3g}; images {within}"
    )
    names = [f"{one['name']} {one['version']} (bits {one['bit_class'] or 'lost'})" for one in report["backends"]]
    out.append(f"backends: {', '.join(names)}")
    for what in ("missing", "lost"):
        out += [f"{what}: {name}: {reason}" for name, reason in report[what].items()]
    if left_out(report):
        out.append(left_out(report))
    skipped = report["images"]["skipped"]
    if skipped:
        out.append(f"skipped {len(skipped)} files that cannot be read:")
        out += [f"  {name}: {reason}" for name, reason in list(skipped.items())[:10]]
    if report["images"]["converted"]:
        out.append(f"converted {len(report['images']['converted'])} images of another colour mode")
    if report["images"]["duplicates"]:
        out.append(
            f"{report['images']['duplicates']} images repeat an earlier one byte for byte; intervals assume none"
        )
    return out
