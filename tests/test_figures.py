"""The committed figures are those of the committed data, and their page is written from them."""

import hashlib
import importlib
import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "figures"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def palette(monkeypatch):
    monkeypatch.syspath_prepend(FIGURES)
    return importlib.import_module("palette")


@pytest.fixture(scope="module")
def manifest():
    return json.loads((FIGURES / "manifest.json").read_text())["studies"]


def test_manifest_lists_what_the_studies_make(manifest):
    from studies import STUDIES

    assert [study.name for study in STUDIES] == list(manifest)
    for study in STUDIES:
        entry = manifest[study.name]
        assert entry["tables"] == sorted(f"{item.name}.csv" for item in study.items)
        drawn = [item.name for item in study.items if item.title]
        assert set(entry["pictures"]) == {f"{name}.svg" for name in drawn}


def test_figures_are_those_of_the_manifest(manifest):
    for study in manifest.values():
        for name, digest in study["pictures"].items():
            assert sha256(FIGURES / name) == digest, f"{name}: run make figures"
    listed = {n for study in manifest.values() for n in (*study["pictures"], *study["tables"])}
    assert listed == {p.name for kind in ("svg", "csv") for p in FIGURES.glob(f"*.{kind}")}


def test_the_page_of_the_paper_follows_from_the_tables(tmp_path):
    from gallery import blocks, fill_page

    copy, found = tmp_path / "page.md", blocks(FIGURES)
    page = ROOT / "docs" / "paper.md"
    copy.write_text(page.read_text())
    fill_page(copy, found)
    assert copy.read_text() == page.read_text(), "run make figures"
    # What is written by hand about the paper's own values.
    values = pd.read_csv(ROOT / "data" / "paper" / "curves.csv", dtype={"figure": str})
    values = values[values["quantity"] == "pass@k"]
    values = values.set_index(["figure", "model", "panel", "method", "x"]).sort_index()
    first = values.xs(("4", "Qwen3-8B"))["value"].xs("grpo", level="method").xs(1.0, level="x")
    assert f"{first.mean():.3f} on average" in copy.read_text()
    table = values.xs(("Table 1", "Qwen3-8B", "average"))["value"]
    assert f"Table 1 prints {table['grpo', 1.0]:.3f}" in copy.read_text()
    olmo = values.xs(("7", "Olmo-3-7B-Instruct", "in distribution"))["value"]
    said = " ".join(copy.read_text().split())
    for method in ("sdsd", "grpo"):
        assert f"{olmo[method, 1.0]:.3f} to" in said
        assert f"{olmo[method, 64.0]:.3f}" in said


def test_words_about_the_concept_graph_are_true():
    """Sentences around the numbers that are written by hand, in docs/paper.md."""
    found = pd.read_csv(FIGURES / "findings-concepts.csv")
    found = found[found["condition"] == "obedient"].set_index(["measure", "run"])["estimate"]
    # MARA solves the harder graphs by the other route; rewards for diversity keep both.
    assert found["pass@64 harder", "mara"] > 0.95
    assert found["routes@64 id", "mara"] < 1.5
    assert found["pass@64 mirror", "mara"] < 0.5
    for run in ("grpo-diversity", "dkpo/2"):
        assert found["routes@64 id", run] > 1.95
        assert found["pass@1 id", run] > 0.93
    assert found["token_entropy id"].idxmin() == "grpo/kl-0"
    # All three rates, for every method that the page compares.
    methods = pd.read_csv(FIGURES / "methods-concepts.csv")
    rates = methods[methods["n_seeds"] >= 3].groupby("method")["rate"].agg(set)
    for name in ("grpo", "sdsd", "grpo-diversity", "mara", "dkpo/2", "sdsd-composed"):
        assert rates[name] == {1e-4, 3e-4, 6e-4}, name


def test_words_about_rows_b_and_e_are_true():
    """Sentences around the numbers of `where_it_fails`."""
    gaps = pd.read_csv(FIGURES / "conditions-concepts.csv")
    larger = gaps[gaps["row"] == "b"].set_index(["group", "name"])
    assert larger.index[larger["holds"]].tolist() == [("KL", "0.3")]
    for place in (("rate", "0.0006"), ("base", "short lengths seen")):
        assert larger.loc[place, "low"] < 0 < larger.loc[place, "difference"]
    assert (larger.loc[[("teacher", "EMA 0.003"), ("teacher", "EMA 0.03")], "difference"] < 0).all()
    table = pd.read_csv(FIGURES / "settings-concepts.csv").set_index(["measure", "axis", "run"])
    means = table.sort_values("place")["estimate"]
    assert means["pass@1 larger", "KL weight", "grpo"].is_monotonic_decreasing
    width = (table["high"] - table["low"])["pass@1 larger", "learning rate", "grpo"]
    assert width.argmax() == 2  # at the largest rate the seeds differ most
    entropy = table.loc["token_entropy id"].reset_index()
    entropy = entropy.pivot_table("estimate", ["axis", "value"], "run")
    assert ((entropy["grpo-diversity"] - entropy["grpo"]).dropna() > 0.05).all()
    assert (entropy["sdsd"] > 0.05).all()
    # Where the base copies the chain.
    found = pd.read_csv(FIGURES / "findings-concepts.csv")
    found = found.set_index(["condition", "measure", "run"])["estimate"]
    for measure in ("token_entropy id", "chain_entropy id"):
        assert found["copying", measure, "sdsd"] < found["copying", measure, "grpo"]
        assert found["copying", measure, "sdsd"] < found["obedient", measure, "sdsd"]
    assert (
        found["copying", "chain_entropy id", "sdsd"]
        < 0.5 * found["copying", "chain_entropy id", "grpo"]
    )


def test_words_about_the_categories_are_true():
    """README: the wording decides whether it narrows, and the forecast said so before."""
    signs = pd.read_csv(FIGURES / "signs-categories.csv").dropna(subset="forecast")
    trained = signs[signs["split"] == "id"].set_index("run")
    assert trained.loc["sdsd/repeated", "low"] > 0
    assert trained.loc[["sdsd/different", "sdsd/copying"], "high"].max() < 0
    assert (np.sign(trained["forecast"]) == np.sign(trained["estimate"])).all()
    ratios = np.exp(signs.set_index(["split", "run"])[["estimate", "forecast"]]).round(1)
    assert ratios.loc["id"].to_numpy().tolist() == [[0.3, 0.3], [0.8, 0.9], [1.5, 1.5]]
    assert ratios.loc["ood", "estimate"].tolist() == [0.7, 1.1, 1.4]
    # What is drawn is the forecast that was committed.
    made = pd.read_csv(ROOT / "data" / "categories" / "forecast.csv")
    means = made.groupby(["template", "split"])["log_ratio_3"].mean()
    for row in signs.to_dict("records"):
        told = means[row["run"].removeprefix("sdsd/"), row["split"]]
        assert row["forecast"] == pytest.approx(told)


def test_words_about_the_path_lab_are_true():
    """docs/training.md and docs/teacher.md."""
    front = pd.read_csv(FIGURES / "front-paths.csv").set_index(["run", "rate"])
    less, kept = "pass@1 less grpo", "distinct@64 of grpo"
    sdsd = front.loc["sdsd"]
    assert (sdsd[f"{less} high"] < 0).all()
    assert sdsd[kept].round(2).between(0.81, 0.88).all()
    for run in ("sdsd/frozen", "sdsd-anchored", "sdsd-composed"):
        assert (front.loc[run, less] > -0.04).all(), run
    assert (front.loc["sdsd-composed", f"{kept} high"] < 1).all()
    # Bars of the composed teacher: accuracy within 0.03 and at most 0.9 of the paths, at one rate.
    composed = front.loc["sdsd-composed"]
    bars = (composed[less] > -0.03) & (composed[kept] <= 0.9)
    assert bars[bars].index.tolist() == [3e-4]
    # The fixes, at the main rate.
    of_base = "distinct@64 of base"
    reach = front[front["reaches"]].sort_values("validation distinct@64")
    assert reach.index[-1] == ("sdsd-anchored/dkpo", 1e-4)
    assert 0.925 < reach.iloc[-1][of_base] < 0.935
    assert reach[of_base].max() < 0.95
    assert front.loc[("dkpo/mixed", 1e-4), of_base] == pytest.approx(0.99, abs=0.005)
    assert front.loc[("dkpo/mixed", 1e-4), less] == pytest.approx(-0.017, abs=0.001)
    # Which answers survive.
    found = pd.read_csv(FIGURES / "survival-paths.csv")
    found = found[found["problems"] == "new"].set_index("run")
    taught = found.index.str.startswith("sdsd")
    assert (found.loc[taught, "auc_gain low"] > 0).all()
    assert (found.loc[~taught, "auc_gain low"] < 0).all()
    assert found.loc["sdsd", "auc_gain"] == pytest.approx(0.026, abs=0.0006)
    # A wrong demonstration helps at first.
    policies = pd.read_parquet(ROOT / "data" / "paths" / "policies.parquet")
    policies = policies[(policies["run"] == "control-wrong") & (policies["split"] == "id")]
    solved = np.exp(policies["logprob"]).groupby([policies["step"], policies["seed"]]).sum()
    solved = solved.groupby("step").mean() / policies["problem_id"].nunique()
    assert solved.loc[[60, 240]].round(2).tolist() == [0.58, 0.51]
    slope = pd.read_csv(FIGURES / "amplification-paths.csv").set_index("run").loc["control-none"]
    assert slope["estimate"] == pytest.approx(1, abs=0.005)
    assert front.loc[("control-none", 1e-4), "pass@1"] == pytest.approx(0.41, abs=0.005)
    # Other divergences, and conditions.
    others = front.loc[["sdsd-forward", "sdsd-jsd"], less].dropna()
    assert others.between(-0.25, -0.07).all()
    assert (others.loc["sdsd-jsd"] < sdsd[less]).all()
    assert (others.loc["sdsd-forward"] < sdsd[less]).all()
    changed = pd.read_csv(FIGURES / "map-paths.csv").set_index("condition")
    assert len(changed) == 14
    assert (changed["kept high"] < 1).sum() == 8
    assert not (changed["difference low"] > 0).any()
    more = changed.loc[changed["kept low"] > 1, "kept"].round(2)
    assert sorted(more) == [1.18, 1.19, 1.21, 1.25]
    # Without the switch.
    policies = pd.read_parquet(ROOT / "data" / "paths" / "map.parquet")
    policies = policies[policies["condition"] == "no-switch"]
    p = np.exp(policies["logprob"].to_numpy(float))
    found = policies.assign(solved=p, paths=1 - (1 - p) ** 64)
    found = found.groupby(["run", "step", "seed", "problem_id"], observed=True)
    found = found[["solved", "paths"]].sum().groupby(["run", "step"], observed=True).mean()
    last = found.xs(140, level="step")["solved"].round(2)
    assert found.loc[("base", 0), "solved"] == pytest.approx(0.65, abs=0.005)
    assert last.to_dict() == {
        "control-other": 0.43, "control-wrong": 0.52, "grpo": 0.80, "grpo/kl": 0.81,
        "sdsd": 0.69, "sdsd-composed": 0.70, "sdsd/frozen": 0.67,
    }  # fmt: skip
    assert found.loc[("sdsd-composed", 140), "paths"] == pytest.approx(4.6, abs=0.05)
    assert found.loc[("grpo/kl", 20)].round(2).tolist() == [0.72, 5.31]
    # The teacher forgets.
    use = pd.read_csv(FIGURES / "mechanism-paths.csv").set_index(["measure", "run", "step"])
    use = use.sort_index()["estimate"]
    assert use["correct_given_demo", "sdsd", 0] == pytest.approx(0.95, abs=0.005)
    assert use["correct_given_demo", "sdsd", 240] == pytest.approx(0.87, abs=0.005)
    for run in ("sdsd/frozen", "sdsd-anchored", "sdsd-composed"):
        assert use["correct_given_demo", run, 240] > 0.93
    assert use["below", "sdsd", 240] == pytest.approx(0.10, abs=0.005)


def test_a_method_is_shown_at_the_rate_that_keeps_most():
    fronts = importlib.import_module("conditions").fronts
    table = pd.DataFrame(
        {
            "method": ["grpo", "grpo", "sdsd", "mara"],
            "rate": [3e-4, 1e-4, 3e-4, 3e-4],
            "accuracy": [0.98, 0.965, 0.975, 0.5],
            "routes": [1.2, 1.8, 1.1, 2.0],
        }
    )
    table = table.assign(routes_low=table["routes"], routes_high=table["routes"])
    text = fronts({"methods-concepts": table})
    assert "| `grpo` | 1.20 [1.20, 1.20] at 0.0003 | 1.80 [1.80, 1.80] at 0.0001 | 1.80 " in text
    assert "| `mara` |  |  |  |" in text
    assert "0.01 by `grpo`, 1.20" in text


def test_each_axis_changes_one_thing():
    axes = importlib.import_module("settings").AXES
    names = {axis: [s.run("sdsd") for s in values.values()] for axis, values in axes.items()}
    assert names["learning rate"] == ["sdsd@0.0001", "sdsd", "sdsd@0.0006"]
    assert {s.run("grpo") for s in axes["teacher's EMA rate"].values()} == {"grpo"}
    assert set(names["base"]) == {"sdsd"}


def test_data_are_those_of_the_manifest(manifest):
    for study in manifest.values():
        if "data" in study:
            data = ROOT / study["data"]
            files = list(data.glob("*.parquet")) if data.is_dir() else [data]
            assert {p.name: sha256(p) for p in files} == study["data_sha256"], "run make figures"


@pytest.mark.slow
@pytest.mark.parametrize(
    "study", ["paths", "teacher", "science", "concepts", "paper", "theory", "countdown"]
)
def test_numbers_follow_from_the_data(study, capsys):
    import regenerate

    assert regenerate.main(["--check", study]) == 0, capsys.readouterr().out


def test_a_changed_number_is_found(tmp_path):
    from writing import differences

    name = "dynamics-theory.csv"
    text = (FIGURES / name).read_text()
    (tmp_path / name).write_text(text.replace("\n", "\n", 1))
    assert differences(tmp_path / name, FIGURES / name) == []
    (tmp_path / name).write_text(re.sub(r"(\d\.\d{6})\d", r"\g<1>", text, count=1))
    (found,) = differences(tmp_path / name, FIGURES / name)
    assert "estimate differs in 1 of" in found


@pytest.mark.slow
def test_the_page_says_what_the_tables_say(tmp_path):
    from gallery import shown, write_gallery

    for path in FIGURES.glob("*.csv"):
        shutil.copy(path, tmp_path)
    assert write_gallery(tmp_path).read_text() == (FIGURES / "README.md").read_text()
    on_page = {item.name for item in shown()}
    drawn = {path.stem for path in FIGURES.glob("*.svg")}
    assert {name for name in drawn if name.endswith(("-paths", "-theory"))} <= on_page <= drawn


# Runs that stand together in a figure.
COMPANIES = [
    ("base", "grpo", "grpo/kl", "sdsd", "sdsd/frozen", "sdsd-uniform", "mara"),
    ("base", "grpo", "grpo/kl", "sdsd", "sdsd/frozen", "sdsd/ema-0.05"),
    ("base", "grpo", "sdsd", "pkpo"),
    ("base", "grpo", "dkpo", "sdsd/repeated", "sdsd/different", "sdsd/copying"),
]


def test_methods_have_distinct_styles(palette):
    styles = palette.STYLES.values()
    assert len({s.color for s in styles}) == len(styles)
    assert len({str(s.linestyle) + s.marker for s in styles}) == len(styles)


@pytest.mark.parametrize("runs", COMPANIES)
def test_colours_of_methods_differ_for_any_eyes(palette, runs, seen):
    styles = palette.lab_styles(runs)
    for one, other in itertools.combinations(runs, 2):
        apart = np.linalg.norm(seen(styles[one].color) - seen(styles[other].color))
        assert apart > 9, (one, other)


@pytest.mark.parametrize("runs", COMPANIES)
def test_colours_of_methods_differ_on_a_dark_page(palette, runs, seen):
    from writing import on_dark

    styles = palette.lab_styles(runs)
    for one, other in itertools.combinations(runs, 2):
        colors = (on_dark(styles[run].color) for run in (one, other))
        assert np.linalg.norm(np.subtract(*map(seen, colors))) > 7, (one, other)


def contrast(one, other):
    """Of WCAG 2."""
    found = []
    for color in map(np.array, map(to_rgb, (one, other))):
        linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
        found.append(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    return max(found) / min(found)


@pytest.mark.parametrize("stem", sorted(path.stem for path in FIGURES.glob("*.svg")))
def test_every_colour_has_one_for_dark_pages(stem, palette):
    text = (FIGURES / f"{stem}.svg").read_text()
    used = set(re.findall(r"(fill|stroke): (#[0-9a-f]{6})", text))
    rule = r'\[style\*="(fill|stroke): (#\w{6})"\]\{\1:(#\w{6})!important\}'
    dark = {(what, light): color for what, light, color in re.findall(rule, text)}
    assert set(dark) == used
    paper = dark["fill", "#ffffff"]
    for look in palette.STYLES.values():
        for what in ("fill", "stroke"):
            if (what, look.color) in used:
                assert contrast(dark[what, look.color], paper) > 3, look
