"""Execute the notebooks in place, all or those named.

Pictures are saved twice as fine, in 256 colours.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
from pathlib import Path

import nbclient
import nbformat
from PIL import Image

FOLDER = Path(__file__).resolve().parent
# The id of a styled table, and an object's address.
RANDOM = re.compile(r"(?<=T_)[0-9a-f]{5}(?=[_\"])|(?<= at 0x)[0-9a-f]+")


def execute(path: Path) -> None:
    """Run a notebook from its folder and write it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(FOLDER)}}
    client = nbclient.NotebookClient(notebook, record_timing=False, resources=where)
    client.extra_arguments = ["--InlineBackend.figure_format=retina"]
    client.execute()
    shrink(notebook)
    settle(notebook)
    nbformat.write(notebook, path)


def shrink(notebook: nbformat.NotebookNode) -> None:
    """Save its pictures with 256 colours: the repository has to stay small."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = _small(data["image/png"])


def settle(notebook: nbformat.NotebookNode) -> None:
    """Number what is named at random, so that equal results are equal files."""
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in {"text/html", "text/plain"} & set(data):
                data[kind] = RANDOM.sub(str(number), data[kind])


def _small(picture: str) -> str:
    with Image.open(io.BytesIO(base64.b64decode(picture))) as opened:
        rgb = opened.convert("RGB")
    few = rgb.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    written = io.BytesIO()
    few.save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


if __name__ == "__main__":
    # No progress bars in a saved notebook, nor a warning of their absence.
    os.environ |= {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore:IProgress not found"}
    for name in sys.argv[1:] or sorted(FOLDER.glob("*.ipynb")):
        execute(Path(name))
