"""The command: exit codes, messages, and what it leaves behind."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from unittest.mock import Mock

import pandas as pd
import pytest
from matplotlib.figure import Figure

import passk_lab
from passk_lab.cli import main
from passk_lab.readers import FORMATS
from passk_lab.rollouts.files import read_metadata, read_rollouts


@pytest.fixture(autouse=True)
def _blank_figures(monkeypatch):
    monkeypatch.setattr(
        "passk_lab.report._figures._draw", lambda *_, **__: Figure(figsize=(0.5, 0.5))
    )
    # rich reads the width of the terminal from here.
    monkeypatch.setenv("COLUMNS", "100")


def rollouts(run: str, right: int, problems: int = 20, n: int = 4) -> pd.DataFrame:
    columns = {
        "run": run,
        "problem_id": [f"p{i:02d}" for i in range(problems) for _ in range(n)],
        "sample_id": list(range(n)) * problems,
        "correct": [j < right for j in range(n)] * problems,
    }
    return pd.DataFrame(columns)


@pytest.fixture
def data(tmp_path):
    """Two runs; "tuned" solves more at the first try and nothing less at the last."""
    table = pd.concat([rollouts("base", 1), rollouts("tuned", 3)], ignore_index=True)
    table.to_parquet(tmp_path / "r.parquet")
    return tmp_path / "r.parquet"


def report(*arguments) -> int:
    return main(["report", *map(str, arguments), "--n-resamples", "200"])


class TestPlan:
    def plan(self, *arguments):
        return main(["plan", *map(str, arguments)])

    def test_prints_a_table_and_a_sentence(self, capsys):
        assert self.plan("--difficulty", "0.5,1", "--change", "0.05", "--samples", "1,8") == 0
        printed = capsys.readouterr().out
        assert re.search(r"\n +8 +159 +1,272\n", printed)
        assert "With 8 samples a problem 159 problems are needed" in printed
        assert "power now" not in printed

    @pytest.mark.slow
    def test_pilot_and_figure(self, data, tmp_path, capsys):
        options = ("--change", "0.1", "--out", tmp_path / "plan")
        assert self.plan(data, *options, "--run", "base") == 0
        assert "power now" in capsys.readouterr().out
        assert {path.name for path in (tmp_path / "plan").iterdir()} == {
            "plan.png", "plan.svg", "plan.csv"
        }  # fmt: skip
        assert set(pd.read_csv(tmp_path / "plan" / "plan.csv")["spread"]) == {0.0, 0.5}

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((), "several runs (base, tuned); name one with --run"),
            (("--run", "x"), "no run is called 'x' (runs: base, tuned)"),
            (("--difficulty", "1,1"), "not both"),
        ],
    )
    def test_says_what_is_missing(self, data, arguments, message, capsys):
        assert self.plan(data, "--change", "0.1", *arguments) == 2
        assert message in capsys.readouterr().err

    def test_needs_a_pilot_or_a_law(self, capsys):
        assert self.plan("--change", "0.1") == 2
        assert "--difficulty A,B" in capsys.readouterr().err


class TestReport:
    @pytest.mark.slow
    def test_prints_and_writes(self, data, tmp_path, capsys):
        assert report(data, "--baseline", "base", "--out", tmp_path / "out") == 0
        printed = capsys.readouterr()
        assert "tuned: better at the first try" in printed.out
        assert "pass@1 0.250 -> 0.750: +0.500 [" in printed.out
        assert re.search(r"base +20 +0\.250", printed.out)
        assert str(tmp_path / "out" / "index.html") in printed.out.replace("\n", "")
        assert printed.err == ""
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert {"index.html", "summary.json", "pass_at_k.png", "pass_at_k.svg", "pass_at_k.csv",
                "differences.png", "pass_rates.csv", "worst_problems.csv"} <= names  # fmt: skip

    @pytest.mark.slow
    def test_metrics_by_name(self, data, tmp_path, capsys):
        names = "g_pass_at_k:0.5,support_kept"
        assert report(data, "--baseline", "base", "--out", tmp_path, "--metrics", names) == 0
        printed = capsys.readouterr().out
        assert re.search(r"run +g_pass_at_k:0\.5 k=1 .* support_kept k=4", printed)
        assert re.search(r"tuned .* 1\.000\n", printed)
        assert report(data, "--out", tmp_path, "--metrics", "pass@1") == 2
        assert "metric 'pass@1' is unknown" in capsys.readouterr().err

    @pytest.mark.slow
    def test_options_arrive(self, data, tmp_path, capsys):
        out = tmp_path / "out"
        options = ["--k", "4,1", "--seed", "7", "--confidence", "0.9", "--no-distinct", "--quiet"]
        options += ["--problems", "3"]
        assert report(data, "--baseline", "tuned", "--out", out, *options) == 0
        assert capsys.readouterr() == ("", "")
        assert (out / "index.html").exists()
        summary = json.loads((out / "summary.json").read_text())
        found = [summary[name] for name in ("seed", "confidence", "n_resamples")]
        assert found == [7, 0.9, 200]
        assert {row["k"] for row in summary["splits"][0]["pass_at_k"]} == {1, 4}
        assert len(summary["splits"][0]["worst_problems"]) == 3

    @pytest.mark.slow
    def test_clusters_and_seeds_arrive(self, data, tmp_path, capsys):
        """Two families tell less than twenty problems; a margin of 0.9 calls all else level."""
        table = pd.read_parquet(data)
        table["template"] = table["problem_id"].str[-1] > "4"
        table["seed"] = table["sample_id"] % 2
        table.to_parquet(data)
        words = {}
        for options in ((), ("--cluster", "template"), ("--margin", "0.9"), ("--pool-seeds",)):
            assert report(data, "--baseline", "base", "--out", tmp_path / "out", *options) == 0
            words[options] = capsys.readouterr().out
        assert "the rollouts of 2 seeds" not in words[()]
        assert "pool the rollouts of 2 seeds" in words["--pool-seeds",]
        assert "tuned: better" in words["--pool-seeds",]
        assert "tuned: too few problems to tell" in words["--cluster", "template"]
        assert report(data, "--out", tmp_path / "out", "--cluster", "family") == 2
        assert "no column 'family'" in capsys.readouterr().err

    @pytest.mark.slow
    @pytest.mark.parametrize("width", [60, 80])
    @pytest.mark.parametrize("length", [4, 30, 200])
    def test_narrow_terminals(self, width, length, tmp_path, capsys, monkeypatch):
        """Every k that was asked for is there, and nothing but a name is longer than a line."""
        monkeypatch.setenv("COLUMNS", str(width))
        long = "tuned" + "x" * length
        table = pd.concat([rollouts("base", 1, n=8), rollouts(long, 3, n=8)])
        table.to_parquet(tmp_path / "r.parquet")
        names = "support_kept,g_pass_at_k:0.5"
        options = ["--baseline", "base", "--k", "1,2,3,4,5,6,7,8", "--metrics", names]
        assert report(tmp_path / "r.parquet", *options) == 0
        lines = capsys.readouterr().out.split("\n")
        printed = "\n".join(lines)
        assert [f"pass@{k}" for k in range(1, 9)] == re.findall(
            r" (pass@\d)(?= |$)", printed, re.M
        )[:8]
        assert "…" not in printed
        assert not [line for line in lines if len(line) > width and not line.startswith(long)]
        assert not [line for line in lines if line != line.rstrip()]
        if length > 4:
            assert long in lines

    @pytest.mark.slow
    def test_needs_no_folder(self, data, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert report(data, "--baseline", "base") == 0
        printed = capsys.readouterr().out
        assert "tuned: better at the first try" in printed
        assert "Wrote" not in printed
        assert [path.name for path in tmp_path.iterdir()] == ["r.parquet"]

    @pytest.mark.slow
    def test_formats(self, data, tmp_path, capsys):
        found = {}
        for name in ("json", "csv", "markdown"):
            out = tmp_path / name
            assert report(data, "--baseline", "base", "--format", name, "--out", out) == 0
            found[name], error = capsys.readouterr()
            assert error == ""
        assert found["json"] == (tmp_path / "json" / "summary.json").read_text()
        table = pd.read_csv(io.StringIO(found["csv"]))
        curve = pd.read_csv(tmp_path / "csv" / "pass_at_k.csv")
        assert table["estimate"].tolist() == curve["estimate"].tolist()
        changes = pd.read_csv(tmp_path / "csv" / "differences.csv")
        assert table["difference"].dropna().tolist() == changes["difference"].tolist()
        lines = found["markdown"].split("\n")
        assert lines[0] == "| run | problems | pass@1 | pass@2 | pass@4 | verdict |"
        assert {line.count("|") for line in lines[:4]} == {7}
        assert lines[3].startswith("| tuned | 20 | 0.750 ")

    @pytest.mark.slow
    def test_markdown_and_csv_keep_names_as_text(self, tmp_path, capsys):
        bad = "=x|<b>*y*\x1b[2J"
        table = pd.concat([rollouts("base", 1), rollouts(bad, 3)])
        table.to_parquet(tmp_path / "r.parquet")
        assert report(tmp_path / "r.parquet", "--baseline", "base", "--format", "markdown") == 0
        printed = capsys.readouterr().out
        assert r"| =x\|\<b\>\*y\*\\x1b\[2J |" in printed
        assert report(tmp_path / "r.parquet", "--baseline", "base", "--format", "csv") == 0
        assert "id,'=x|<b>*y*" in capsys.readouterr().out.replace("default,", "id,")

    @pytest.mark.slow
    def test_advice_is_said_once(self, tmp_path, capsys):
        runs = ["base", "a", "b", "c"]
        table = pd.concat([rollouts(run, 1, 5, 2) for run in runs])
        table["correct"] ^= table["run"].isin(["b"]) & (table["problem_id"] == "p00")
        table.to_parquet(tmp_path / "r.parquet")
        assert report(tmp_path / "r.parquet", "--baseline", "base", "--k", "1") == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert printed.count("Only pass@1 was compared") == 1
        assert printed.count("passk-lab plan says") == 1
        assert printed.count("can't be excluded") == 3

    @pytest.mark.slow
    def test_run_names_a_file_without_runs(self, tmp_path, capsys):
        rollouts("x", 1).drop(columns="run").to_parquet(tmp_path / "r.parquet")
        assert report(tmp_path / "r.parquet", "--run", "my-model", "--out", tmp_path) == 0
        assert "my-model" in capsys.readouterr().out

    @pytest.mark.slow
    def test_without_a_baseline_says_how(self, data, tmp_path, capsys):
        assert report(data, "--out", tmp_path / "out") == 0
        assert "--baseline RUN" in capsys.readouterr().out

    @pytest.mark.slow
    @pytest.mark.parametrize(("baseline", "code"), [("base", 0), ("tuned", 1)])
    def test_fail_if_narrower(self, data, tmp_path, baseline, code):
        arguments = [data, "--baseline", baseline, "--out", tmp_path / "out", "--quiet"]
        assert report(*arguments) == 0
        assert report(*arguments, "--fail-if-narrower") == code

    @pytest.mark.slow
    def test_names_cannot_steer_the_terminal(self, tmp_path, capsys):
        bad = "\x1b[2J[red]x[/red]\x9b\u202e\r"
        table = pd.concat([rollouts("base" + bad, 1), rollouts("tuned" + bad, 3)])
        table["split"] = bad + table["problem_id"].str[:1]
        table.to_parquet(tmp_path / "r.parquet")
        assert report(tmp_path / "r.parquet", "--baseline", "base" + bad, "--out", tmp_path) == 0
        printed = capsys.readouterr().out
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", printed)
        assert r"tuned\x1b[2J[red]x[/red]\x9b\u202e\x0d: better" in printed.replace("\n", "")


def fails(capsys, arguments, *words):
    """The command says on one channel what is wrong; returns what it says."""
    assert main([str(a) for a in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert all(word in printed.err for word in words), printed.err
    return printed.err


class TestErrors:
    def test_one_line(self, data, tmp_path, capsys):
        arguments = ["report", data, "--baseline", "bse", "--out", tmp_path / "out"]
        words = ("no run is called 'bse'", "did you mean 'base'", "runs: base, tuned")
        error = fails(capsys, arguments, *words)
        assert error.startswith("passk-lab: error: ")
        assert error.count("\n") == 1

    @pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
    def test_missing_column(self, ending, tmp_path, capsys):
        path = tmp_path / f"r.{ending}"
        table = rollouts("base", 1).drop(columns="correct")
        if ending == "jsonl":
            table.to_json(path, orient="records", lines=True)
        else:
            getattr(table, f"to_{ending}")(path)
        fails(capsys, ["report", path, "--out", tmp_path], path.name, "'correct' is missing")

    @pytest.mark.parametrize(
        ("name", "make", "words"),
        [
            ("no.parquet", lambda _: None, "no such file"),
            ("r.parquet", lambda p: p.write_bytes(p.read_bytes()[:200]), "readable parquet file"),
            ("r.parquet", rollouts("base", 1)[:0].to_parquet, "no rollouts"),
            ("r.txt", lambda p: p.touch(), "passk-lab convert"),
        ],
        ids=["missing", "truncated", "empty", "unknown ending"],
    )
    def test_unusable_files(self, data, name, make, words, tmp_path, capsys):
        make(tmp_path / name)
        fails(capsys, ["report", tmp_path / name, "--out", tmp_path], words)

    def test_out_below_a_file(self, data, capsys):
        # Root may write anywhere, but nobody can make a folder below a file.
        fails(capsys, ["report", data, "--out", data / "out"], "can't write into", str(data))

    @pytest.mark.parametrize(
        ("option", "value", "words"),
        [
            ("--k", "1,5", "k=5 exceeds the 4 samples of problem 'p00'"),
            ("--k", "0", "at least 1"),
            ("--k", "a,b", "no list of numbers"),
            ("--k", "", "no list of numbers"),
            ("--confidence", "95", "between 0 and 1"),
            ("--confidence", "nan", "between 0 and 1"),
            ("--confidence", "x", "no number"),
            ("--n-resamples", "0", "at least 1"),
            ("--seed", "-1", "at least 0"),
            ("--seed", "1.5", "no whole number"),
        ],
    )
    def test_bad_options(self, data, tmp_path, capsys, option, value, words):
        arguments = ["report", data, "--out", tmp_path, f"{option}={value}"]
        fails(capsys, arguments, words, "" if value == "1,5" else option)

    @pytest.mark.parametrize("arguments", [[], ["nonsense"], ["report"], ["train", "--suite", "x"]])
    def test_usage(self, capsys, arguments):
        fails(capsys, arguments, "usage: passk-lab")

    def test_messages_cannot_steer_the_terminal(self, tmp_path, capsys):
        error = fails(capsys, ["report", tmp_path / "\x1b[2J.parquet", "--out", tmp_path])
        assert "\x1b" not in error

    def test_a_bug_is_not_hidden_and_interrupts_are_told(self, data, tmp_path, monkeypatch, capsys):
        build = Mock(side_effect=KeyError("bug"))
        monkeypatch.setattr("passk_lab.report.analysis.build_report", build)
        with pytest.raises(KeyError):
            report(data, "--out", tmp_path)
        build.side_effect = KeyboardInterrupt
        assert report(data, "--out", tmp_path) == 130
        assert "interrupted" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("option", "value", "words"),
        [
            ("--embedder", "no/such-model", "embedder='no/such-model'"),
            ("--metrics", "pass@1", "metric 'pass@1' is unknown"),
        ],
    )
    def test_what_is_missing_is_said_before_work_starts(
        self, data, monkeypatch, capsys, option, value, words
    ):
        monkeypatch.setattr("passk_lab.report.analysis.read_all", Mock(side_effect=AssertionError))
        table = pd.read_parquet(data).assign(text="x")
        table.to_parquet(data)
        fails(capsys, ["report", data, option, value], words)


class TestConvert:
    def test_writes_a_rollouts_file(self, tmp_path, capsys):
        source, target = tmp_path / "mine.csv", tmp_path / "r.parquet"
        source.write_text("task,ok\na,1\na,0\nb,1\n")
        option = 'columns={"problem_id": "task", "correct": "ok"}'
        assert main(["convert", "plain", str(source), str(target), "--option", option]) == 0
        said = f"Wrote {target}: 3 rollouts of 2 problems, run 'r'.\n"
        assert capsys.readouterr().out == said
        assert read_rollouts(target)["correct"].tolist() == [True, False, True]
        assert read_metadata(target)["converted_from"]["format"] == "plain"
        again = ["convert", "plain", str(source), str(target), "--option", option, "--quiet"]
        assert main([*again, "--run", "me"]) == 0
        assert set(read_rollouts(target)["run"]) == {"me"}

    @pytest.mark.parametrize(
        ("form", "options", "words"),
        [
            ("evalpus", [], ["did you mean 'evalplus'", "lm-eval"]),
            ("plain", ["colums={}"], ["option 'colums' is unknown"]),
            ("plain", ["columns"], ["key=value"]),
            ("plain", ["columns={}", "columns={}"], ["twice"]),
        ],
    )
    def test_bad_arguments(self, form, options, words, tmp_path, capsys):
        source, target = tmp_path / "m.csv", tmp_path / "r.parquet"
        source.write_text("problem_id,correct\na,1\n")
        given = [word for option in options for word in ("--option", option)]
        fails(capsys, ["convert", form, source, target, *given], *words)
        assert not target.exists()

    def test_words_for_no_answer(self, tmp_path, capsys):
        """As `convert` reads a file, so does `report`."""
        rows = rollouts("a", 2).assign(answer="7")
        rows.loc[~rows["correct"], "answer"] = "[none]"
        rows.loc[rows["sample_id"] == 3, "answer"] = "can't tell"
        source, target = tmp_path / "a.csv", tmp_path / "r.parquet"
        rows.to_csv(source, index=False)
        words = ["--placeholders", "Can't tell,none"]
        assert main(["convert", "plain", str(source), str(target), *words]) == 0
        assert read_rollouts(target)["answer"].dropna().unique().tolist() == ["7"]
        for options, said in ((words, False), ([*words[:1], "idk"], True)):
            assert report(source, *options, "--out", tmp_path / "out") == 0
            assert ("of the answers stand for none" in capsys.readouterr().out) is said

    def test_missing_source(self, tmp_path, capsys):
        source, target = tmp_path / "no.csv", tmp_path / "r.jsonl"
        fails(capsys, ["convert", "plain", source, target], "no such file")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["usage: passk-lab"]),
        (["report", "--help"], ["usage: passk-lab"]),
        (["convert", "--help"], FORMATS),
        *(
            ([name, "--help"], ["--columns", "--normalize-answers", "--placeholders"])
            for name in ("report", "convert", "score", "plan")
        ),
    ],
)
def test_help(arguments, words, capsys):
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in words)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"passk-lab {passk_lab.__version__}\n"


class TestProcess:
    """What only a real process shows."""

    @pytest.mark.slow
    def test_ascii_terminal(self, data, tmp_path):
        arguments = ["report", data, "--baseline", "base", "--out", tmp_path / "out"]
        done = subprocess.run(
            [sys.executable, "-m", "passk_lab", *arguments, "--n-resamples", "200"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "ascii"},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "tuned: better" in done.stdout

    @pytest.mark.parametrize(
        ("line", "words"),
        [("passk-lab rep", ["report"]), ("passk-lab report --format m", ["markdown"]),
         ("passk-lab report --form", ["--format"])],
    )  # fmt: skip
    def test_completion(self, line, words, tmp_path):
        """What a shell asks, and what it is told."""
        pytest.importorskip("argcomplete")
        told = tmp_path / "told"
        asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
        asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(told), "_ARGCOMPLETE_IFS": "\n"}
        subprocess.run([sys.executable, "-m", "passk_lab"], env={**os.environ, **asked}, check=True)
        assert [word.strip() for word in told.read_text().split("\n")] == words

    @pytest.mark.slow
    def test_nobody_reads(self, data, tmp_path):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-m", "passk_lab", "convert", "plain", data, tmp_path / "r.jsonl"],
            stdout=write, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        os.close(write)
        assert (done.returncode, done.stderr) == (141, "")

    @pytest.mark.slow
    @pytest.mark.parametrize("arguments", [["--help"], ["report", "--help"], ["train", "--help"]])
    def test_help_is_quick(self, arguments):
        """Nothing heavy is loaded for a help text."""
        code = (
            f"import sys; from passk_lab.cli import main; main({arguments}); "
            "print(sorted({'numpy', 'pandas', 'matplotlib', 'torch'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "[]"
