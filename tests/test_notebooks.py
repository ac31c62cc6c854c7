import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MAX_BYTES = 400_000
NEEDS_TORCH = ("4_", "5_", "7_")
# A path from the root of a disk: not "and/or", "9/4", "../data", "</td>" or a link.
ABSOLUTE = re.compile(r"(?<![\w.:/<)])/[\w.-]+/[\w.-]+|\b[A-Z]:\\\w")


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def output_texts(cell):
    for output in cell.outputs:
        yield output.get("text", "")
        yield "\n".join(output.get("traceback", []))
        yield from (
            str(content)
            for kind, content in output.get("data", {}).items()
            if not kind.startswith("image/")
        )


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_they_are_numbered_without_a_gap():
    numbers = [int(path.stem.split("_")[0]) for path in NOTEBOOKS]
    assert numbers == list(range(1, 8))


def test_stored_outputs_are_whole(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert cell.outputs, f"no output of: {cell.source[:60]}"
        # Neither errors, nor what goes to stderr: warnings and progress bars.
        kinds = [output.get("name", output.output_type) for output in cell.outputs]
        assert set(kinds) <= {"stdout", "execute_result", "display_data"}, cell.source[:60]
    assert path.stat().st_size < MAX_BYTES


def test_stored_outputs_name_no_absolute_path(path):
    for cell in code_cells(nbformat.read(path, as_version=4)):
        for text in output_texts(cell):
            assert not ABSOLUTE.search(text), cell.source[:60]


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["written to /home/me/report", "(/tmp/x1/out.csv)", r"C:\Users", "'/data/base'"], True),
        (["9/4 and 9 / 4", "<b>x</b></td>", "../data/paths", "https://a.org/b/1", "a/b/c"], False),
    ],
)
def test_absolute_paths_are_found(texts, found):
    assert [bool(ABSOLUTE.search(text)) for text in texts] == [found] * len(texts)


@pytest.mark.slow
def test_runs_in_small_settings(path, tmp_path, monkeypatch):
    if path.name.startswith(NEEDS_TORCH):
        pytest.importorskip("torch")
    pytest.importorskip("ipykernel")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PASSK_LAB_SMALL", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # the notebooks' own scratch folders
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(FOLDER)}}
    )
    client.execute()  # raises CellExecutionError where a cell errs
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]
