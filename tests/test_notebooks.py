import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from passk_lab import cli
from passk_lab.rollouts import read_rollouts

nbformat = pytest.importorskip("nbformat")

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MAX_BYTES = 400_000
MAX_LINES, MAX_LINES_OF_CELL = 120, 15
NEEDS = {"3_": "sentence_transformers", "4_": "torch", "5_": "torch", "7_": "torch"}
# In a code cell, in a fenced block, or set in by four blanks; a backslash continues the line.
COMMAND = re.compile(r"^(?:!|\$ | {4})?(passk-lab (?:\\\n|.)+)", re.MULTILINE)
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
    assert any(cell.outputs for cell in cells)
    for cell in cells:
        # Neither errors, nor what goes to stderr: warnings and progress bars.
        kinds = [output.get("name", output.output_type) for output in cell.outputs]
        assert set(kinds) <= {"stdout", "execute_result", "display_data"}, cell.source[:60]
    assert path.stat().st_size < MAX_BYTES


# The others were written before these limits.
STORIES = pytest.mark.parametrize(
    "path", [*NOTEBOOKS[:3], NOTEBOOKS[5]], ids=lambda path: path.stem
)


@STORIES
def test_code_is_short(path):
    cells = code_cells(nbformat.read(path, as_version=4))
    lines = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in cells]
    assert lines[0] <= 5, "a set-up of more than five lines"
    assert max(lines) <= MAX_LINES_OF_CELL, cells[lines.index(max(lines))].source[:60]
    assert sum(lines) <= MAX_LINES


@STORIES
def test_prose_is_not_code(path):
    """Sentences stand in Markdown cells."""
    for cell in code_cells(nbformat.read(path, as_version=4)):
        assert "Markdown(" not in cell.source, cell.source[:60]


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
    if path.name[:2] in NEEDS:
        pytest.importorskip(NEEDS[path.name[:2]])
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


def commands(path):
    cells = nbformat.read(path, as_version=4).cells
    found = [match[1] for cell in cells for match in COMMAND.finditer(cell.source)]
    lines = [command.replace("\\\n", " ") for command in found]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_commands_are_found(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell("As\n\n    passk-lab a --b 'c d' # why\n\n`passk-lab x`"),
        nbformat.v4.new_markdown_cell("```shell\npasskey\npasskey-lab\npassk-lab e \\\n  f\n```"),
        nbformat.v4.new_code_cell("!passk-lab g"),
    ]
    path = tmp_path / "one.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    assert commands(path) == [["a", "--b", "c d"], ["e", "f"], ["g"]]


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A folder with the files that commands of the notebooks name."""
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(ROOT / "data")
    names = {"run": "model", "problem_id": "game", "text": "replies", "answer": "parsed"}
    samples = read_rollouts(ROOT / "data" / "countdown" / "rollouts.parquet")
    own = samples.rename(columns=names | {"correct": "right"})
    own = own.groupby(["model", "game"], as_index=False)[["replies", "parsed", "right"]].agg(list)
    own.to_json("own.jsonl", orient="records", lines=True)
    logs = ROOT / "tests" / "fixtures" / "lm-eval" / "output" / "tiny-llama"
    Path("results").mkdir()
    for log in (*logs.glob("results_*"), *logs.glob("samples_toy_single_*")):
        Path("results", log.name).symlink_to(log)
    return tmp_path


@pytest.mark.slow
def test_printed_commands_run(path, workshop, capsys):
    """Those that need a model of the reader's are read alone."""
    for command in commands(path):
        if command[0] in ("sample", "score", "train"):
            cli._parser().parse_args(command)
        else:
            assert cli.main(command) == 0, (command, capsys.readouterr().err)


def test_words_about_coverage_are_true():
    """Notebook 2, last part."""
    found = pd.read_csv(ROOT / "figures" / "pass_at_k-paths.csv").query("split == 'id'")
    found = found.set_index(["metric", "k", "run"]).sort_index()
    assert found.loc[("pass_at_k", 32), "estimate"].min() > 0.99
    shown = found.loc[("coverage_at_k", 64)].loc[["grpo", "sdsd", "sdsd/frozen"]]
    assert shown["high"].max() < found.loc[("coverage_at_k", 64, "base"), "low"]


def test_words_about_entropy_are_true():
    """Notebook 3, first part."""
    ends = pd.read_csv(ROOT / "figures" / "entropy-paths.csv").query("step == 240")
    entropy, paths = (ends.groupby("run")[name].mean() for name in ("token_entropy", "distinct@64"))
    for run in ("sdsd-forward", "control-other"):
        assert entropy[run] > entropy["base"]
        assert paths[run] < paths["base"] - 1
    assert entropy["sdsd"] == pytest.approx(entropy["srpo"], abs=0.02)
    assert paths["sdsd"] < paths["srpo"] - 1
    assert entropy["grpo"] < entropy["sdsd"] - 0.1
    assert paths["grpo"] > paths["sdsd"]
