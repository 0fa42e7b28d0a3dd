"""Something to turn: an ipywidgets slider where a kernel listens, a plain HTML one where none does.

A page of the built book has no kernel and perhaps no network, so what an executed run leaves behind carries all
of its frames with it and needs a browser, nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import os
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SCRIPT = """(function () {
  document.querySelectorAll('[data-stepper="KEY"]').forEach(function (box) {
    if (box.dataset.ready) return;
    box.dataset.ready = "yes";
    var frames = box.querySelectorAll("img"), slider = box.querySelector("input"), text = box.querySelector("output");
    function step() {
      frames.forEach(function (frame, i) { frame.style.display = i === slider.valueAsNumber ? "" : "none"; });
      text.textContent = frames[slider.valueAsNumber].alt;
    }
    slider.addEventListener("input", step);
    slider.value = 0;  // browsers keep a slider's place over a reload
    slider.disabled = false;
    step();
  });
})();"""


def stepper(
    frames: Sequence[Any],
    labels: Sequence[str],
    caption: str,
    live: Callable[[int], Any] | None = None,
) -> Any:
    """Let the reader step through frames with a slider; make it a cell's last expression.

    Args:
        frames: Pictures in order, all of one size: matplotlib figures (closed afterwards), bytes of PNG files,
            or uint8 arrays (H, W, 3) or (H, W). Arrays of up to 64 pixels a side are enlarged, unsmoothed.
        labels: What each frame shows: said beside the slider and read out by screen readers.
        caption: What turning the slider shows, one sentence.
        live: In a live kernel, draws the frame of an index anew instead of showing `frames[index]`.

    Returns:
        In a live kernel an `ipywidgets.VBox`; in an executed run (`CHIMERA_RUN_DIR` is set) an HTML object that
        needs neither kernel nor network.

    Raises:
        ChimeraError: No frames, a frame of an unknown kind, or another number of labels than frames.
    """
    if not len(frames) or len(frames) != len(labels):
        raise ChimeraError(f"stepper got {len(frames)} frames and {len(labels)} labels: needs one label per frame")
    said = [f"{i + 1} / {len(frames)} · {label}" for i, label in enumerate(labels)]
    encoded = [_encode(frame) for frame in frames]
    if os.environ.get("CHIMERA_RUN_DIR"):
        from IPython.display import HTML

        return HTML(_page(encoded, said, caption))
    return _live(encoded, said, caption, live)


def _page(encoded: list[bytes], said: list[str], caption: str) -> str:
    pictures = [base64.b64encode(frame).decode("ascii") for frame in encoded]
    # The key is made of the content, not drawn: the same run must leave the same notebook.
    key = hashlib.sha256("".join([caption, *said, *pictures]).encode()).hexdigest()[:12]
    images = "\n".join(
        f'<img src="data:image/png;base64,{picture}" alt="{html.escape(text)}"'
        f' style="{"" if i == 0 else "display:none"}">'
        for i, (picture, text) in enumerate(zip(pictures, said, strict=True))
    )
    return (
        f'<figure class="chimera-stepper" data-stepper="{key}">\n{images}\n'
        f'<input type="range" min="0" max="{len(encoded) - 1}" step="1" value="0" disabled'
        f' aria-label="{html.escape(caption)}" style="width:100%">\n'
        f'<output aria-live="polite" style="display:block">{html.escape(said[0])}</output>\n'
        f"<figcaption>{html.escape(caption)}</figcaption>\n</figure>\n"
        f"<script>{_SCRIPT.replace('KEY', key)}</script>"
    )


def _live(encoded: list[bytes], said: list[str], caption: str, live: Callable[[int], Any] | None) -> Any:
    import ipywidgets

    # Not ipywidgets.Image, which has no alternative text.
    picture = ipywidgets.HTML(_picture(encoded[0], said[0]))
    slider = ipywidgets.IntSlider(
        value=0, min=0, max=len(encoded) - 1, readout=False, description="step", layout={"width": "95%"}
    )
    text = ipywidgets.Label(said[0])

    def step(change: dict[str, Any]) -> None:
        index = change["new"]
        picture.value = _picture(_encode(live(index)) if live else encoded[index], said[index])
        text.value = said[index]

    slider.observe(step, names="value")
    return ipywidgets.VBox([picture, slider, text, ipywidgets.HTML(html.escape(caption))])


def _picture(content: bytes, said: str) -> str:
    """Make an img element of the bytes of a PNG file, with what it shows for those who cannot see it."""
    source = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
    return f'<img src="{source}" alt="{html.escape(said)}" style="max-width:min(100%, 640px);object-fit:contain">'


def _encode(frame: Any) -> bytes:
    """Turn one frame into the bytes of a PNG file."""
    import numpy as np
    from matplotlib.figure import Figure

    if isinstance(frame, bytes) and frame.startswith(b"\x89PNG\r\n\x1a\n"):
        return frame
    if isinstance(frame, Figure):
        import matplotlib.pyplot as plt

        from chimera_lib.plotting import png

        content = png(frame, dpi=110)
        plt.close(frame)
        return content
    if isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and (frame.ndim == 2 or frame.shape[2:] == (3,)):
        from PIL import Image

        image = Image.fromarray(frame)
        if max(image.size) <= 64:
            image = image.resize((image.width * 8, image.height * 8), Image.Resampling.NEAREST)
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return buffer.getvalue()
    kind = f"array {frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
    raise ChimeraError(f"a frame is {kind}: expected a figure, bytes of a PNG, or a uint8 array (H, W, 3) or (H, W)")
