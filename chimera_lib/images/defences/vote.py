"""A vote over three libraries."""

from __future__ import annotations

import numpy as np

from chimera_lib.images.defences.defence import Answer, Defence

# Two systems of three libraries each, none in common, all from pip.
TRIOS = (("openblas", "onnxruntime", "jax"), ("blis", "mkl", "openvino"))


class Vote(Defence):
    """Answers what at least two of its three libraries predict; abstains where all three differ.

    The attack walks to the boundary as ever: with two classes in play the vote is the sign of the middle one of
    three margins, so the voting system has a boundary as sharp as each library's, a little elsewhere.
    """

    name, title = "vote", "vote of three libraries"

    def __init__(self, sides: tuple[tuple[str, ...], tuple[str, ...]] = TRIOS) -> None:
        super().__init__(sides)

    def answer(self, logits: np.ndarray) -> Answer:
        """The logits of the library in the middle, so that their argmax is the vote and they tell how far it is."""
        z = logits[:, :, 0]
        rows = np.arange(z.shape[1])
        predictions = z.argmax(-1)
        votes = (predictions[:, None] == predictions[None]).sum(0)  # (3, N): how many agree with each
        first, second = np.argsort(-z.mean(0), axis=-1, kind="stable")[:, :2].T
        order = np.argsort(z[:, rows, first] - z[:, rows, second], axis=0, kind="stable")
        middle = order[len(z) // 2]
        chosen = np.where(votes[middle, rows] == votes.max(0), middle, votes.argmax(0))
        return Answer(z[chosen, rows], votes.max(0) < 2)
