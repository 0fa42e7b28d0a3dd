"""Each figure of the null space draws what it is given, with labelled axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from chimera_lib.prion.catalysts.survey import Row
from chimera_lib.prion.figures import spectrum as figures
from chimera_lib.prion.hessian.null_space import NullSpace
from chimera_lib.prion.hessian.spectrum import Density

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

SPACE = NullSpace(torch.eye(2, 6), torch.tensor([0.01, 0.02]), 1.0, torch.ones(6, dtype=torch.bool), 3)
MADE = {
    "density": lambda: figures.density(
        Density(np.array([-1.0, 0.0, 5.0]), np.array([0.1, 0.8, 0.1]), 1), {"largest": 5.0}
    ),
    "curvatures": lambda: figures.curvatures({"a": [1.0, 2.0], "b": [0.01]}),
    "null_frame": lambda: figures.null_frame(SPACE, ["one", "two"], [1, 5], "title"),
    "courses": lambda: figures.courses(np.array([[1.0, 0.1], [1.2, 0.2]]), {0: [1.0, 1.1], 1: [0.5, 0.6]}, 0.05),
    "rhos": lambda: figures.rhos(
        [Row("text_fixed", (0.5, 0.9), (1.0, 1.1)), Row("sham", (0.2, 0.1), (1.0, 1.0))], {"sham": "nothing"}
    ),
}


@pytest.fixture(params=MADE)
def figure(request: pytest.FixtureRequest) -> Iterator[Figure]:
    import matplotlib.pyplot as plt

    made = MADE[request.param]()
    made.canvas.draw()
    yield made
    plt.close(made)


def test_axes_are_labelled(figure: Figure) -> None:
    for axis in figure.axes:
        assert axis.get_xlabel()
        assert axis.get_ylabel() or axis.get_yticklabels()[0].get_text()


def test_shares_are_those_of_the_directions() -> None:
    import matplotlib.pyplot as plt

    made = MADE["null_frame"]()
    widths = [bar.get_width() for bar in made.axes[0].patches]
    assert widths == pytest.approx([0.5, 0.5, 1 / 6, 5 / 6])
    plt.close(made)
