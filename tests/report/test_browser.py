"""The page as people see it, in headless Chromium."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from passk_lab.report import Report, build_report
from tests.browser import CHROMIUM, DRIVER, browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]

LONG = "a-run-with-a-very-long-name-" + "x" * 120 + "-step000400"
HOSTILE = [
    "<script>window.hacked = 1</script>",
    LONG,
    "نموذج لغة",
    "🚀 <img src=x onerror=alert(1)>",
]
WIDTHS = (1200, 768, 390)


def table(runs: list[str], n: int = 8, problems: int = 12) -> pd.DataFrame:
    """The baseline solves most, the others less and less."""
    rng = np.random.default_rng(0)
    parts = []
    for place, run in enumerate(["base", *runs]):
        for problem in range(problems):
            correct = rng.random(n) < 0.8 - 0.4 * place / len(runs)
            part = {"problem_id": f"p{problem}", "prompt": f"What is {problem} + 1?"}
            answer = [f"a{rng.integers(3)}" if c else "wrong" for c in correct]
            text = [f"I say {one}" for one in answer]
            part |= {"run": run, "correct": correct, "answer": answer, "text": text}
            parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def make(folder, rollouts: pd.DataFrame) -> Report:
    return build_report(rollouts, "base", out=folder, n_resamples=200)


@pytest.fixture(scope="module")
def window():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return make(tmp_path_factory.mktemp("hostile"), table(HOSTILE))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make(tmp_path_factory.mktemp("small"), table(["rl"]))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    rollouts = table([f"run-{place}" for place in range(40)], n=4).drop(columns="text")
    return make(tmp_path_factory.mktemp("many"), rollouts)


OPEN_ALL = "document.querySelectorAll('details').forEach((one) => { one.open = true; });"
# Boxes that reach over the right edge, but for those in a region that scrolls.
CUT = """
return [...document.querySelectorAll("body *")].filter((one) =>
  !one.closest(".scroll > *") && one.getBoundingClientRect().right > innerWidth + 1
).map((one) => one.outerHTML.slice(0, 80));
"""


def texts(window, selector: str) -> list[str]:
    """What is to be seen of some elements."""
    return window.run(
        f"return [...document.querySelectorAll({selector!r})]"
        ".filter((one) => one.checkVisibility()).map((one) => one.innerText.trim())"
    )


@pytest.mark.parametrize("kind", ["hostile", "small", "many"])
def test_nothing_is_cut_at_any_width(kind, window, request):
    report = request.getfixturevalue(kind)
    for width in WIDTHS if kind != "many" else WIDTHS[-1:]:
        window.open(report.page, width)
        for opened in (False, True):
            if opened:
                window.run(OPEN_ALL)
            assert window.run("return document.documentElement.scrollWidth") == width
            assert window.run(CUT) == []


def test_tables_fit_on_a_phone(window, small):
    window.open(small.page, 390)
    window.run(OPEN_ALL)
    wide = window.run("""
      return [...document.querySelectorAll(".scroll")].filter(
        (one) => one.scrollWidth > one.clientWidth).map((one) => one.getAttribute("aria-label"))""")
    assert set(wide) <= {"What was read"}


def test_the_first_column_stays(window, hostile):
    window.open(hostile.page, 390)
    window.run(OPEN_ALL)
    moved = window.run("""
      return [...document.querySelectorAll(".scroll")].filter((one) => {
        one.scrollLeft = 100;
        return one.scrollLeft > 50;
      }).map((one) => one.querySelector("tbody td").getBoundingClientRect().left
                      - one.getBoundingClientRect().left)""")
    assert moved
    assert max(map(abs, moved)) < 1


def test_many_runs_fit_on_a_page(window, many):
    assert many.page.stat().st_size < 2_000_000
    window.open(many.page)
    assert window.run("return document.documentElement.scrollHeight") < 5000
    assert len(texts(window, ".matrix tbody tr")) == 40
    assert window.run("return document.querySelectorAll('.legend .key').length") == 41
    assert texts(window, ".evidence") == []


def test_few_runs_are_open(window, small):
    window.open(small.page)
    assert len(texts(window, ".evidence")) == 1
    bold = window.run("return document.querySelectorAll('.evidence strong').length")
    assert bold == sum(small.verdicts[0].clear) < 3


def test_links_open_what_they_lead_to(window, many):
    window.open(many.page)
    window.run("document.querySelectorAll('.matrix a')[7].click()")
    assert len(texts(window, ".evidence")) == 1


def test_dark(window, small):
    ground = "return getComputedStyle(document.body).backgroundColor"
    line = "return getComputedStyle(document.querySelector('figure path[stroke*=c0]')).stroke"
    seen = {}
    for dark in (False, True):
        window.open(small.page, dark=dark)
        seen[dark] = window.run(ground), window.run(line)
    light, dark = seen[False], seen[True]
    assert light[0] == "rgb(245, 246, 248)"
    assert dark[0] == "rgb(18, 21, 25)"
    assert light[1] != dark[1]


def test_sort_and_filter(window, hostile):
    window.open(hostile.page)
    window.run("document.querySelector('.problems').open = true")
    column = ".sortable tbody > tr:first-child > td:nth-child(3)"
    head = "document.querySelectorAll('.sortable > thead th button')[2].click()"
    drops = [float(text) for text in texts(window, column)]
    window.run(head)
    assert [float(text) for text in texts(window, column)] == sorted(drops, reverse=True) != drops
    window.run(head)
    assert [float(text) for text in texts(window, column)] == sorted(drops)
    window.run("""
      const search = document.querySelector("input[type=search]");
      search.value = "STEP000400";
      search.dispatchEvent(new Event("input"));""")
    shown = texts(window, ".sortable > tbody > tr:first-child > td:nth-child(2)")
    assert set(shown) == {LONG}
    assert len(shown) < len(drops)


def test_problems_open_in_their_row(window, small):
    window.open(small.page)
    worst = small.sections[0].worst.iloc[0]
    assert texts(window, ".drill") == []
    window.run("document.querySelector('.sortable tbody details').open = true")
    (drill,) = texts(window, ".drill")
    assert f"What is {worst['problem_id'][1:]} + 1?" in drill
    rows = window.run("""
      return [...document.querySelector(".drill table").tBodies[0].rows].map(
        (row) => [...row.cells].map((cell) => cell.innerText))""")
    for place, run in ((2, "baseline"), (3, "run")):
        right = sum(int(row[place]) for row in rows if row[1] == "yes")
        assert right == worst["correct_baseline" if run == "baseline" else "correct"]
        assert sum(int(row[place]) for row in rows) == 8
    assert texts(window, ".drill pre")[1:] == []
    window.run("document.querySelector('.drill details').open = true")
    assert texts(window, ".drill pre")[1].startswith("I say a")


def test_runs_are_switched_off(window, hostile):
    window.open(hostile.page)
    window.run("document.querySelector('.curves').open = true")
    count = """
      const marks = document.querySelectorAll("figure [data-run='0'] use");
      return [...marks].filter((one) => one.getClientRects().length).length"""
    before = window.run(count)
    assert before >= 10
    window.run("document.querySelector('.legend button').click()")
    assert window.run(count) == 0
    window.run("document.querySelector('.legend button').click()")
    assert window.run(count) == before
    window.run("document.querySelector('.legend .all').click()")
    every = "return [...document.querySelectorAll('[data-run]:not(.off)')]"
    assert window.run(f"{every}.length") == 0
    window.run("document.querySelectorAll('.legend button')[2].click()")
    assert {*window.run(f"{every}.map((one) => one.dataset.run)")} == {"2"}
    window.run("document.querySelector('.legend .all').click()")
    window.run("document.querySelector('.legend .all').click()")
    assert window.run(count) == before


def test_values_under_the_pointer(window, small):
    window.open(small.page)
    window.run("""
      const line = [...document.querySelectorAll("figure [data-run='0']")].find(
        (group) => group.querySelectorAll("use").length > 1);
      const mark = line.querySelector("use").getBoundingClientRect();
      const svg = document.querySelector("figure svg");
      svg.dispatchEvent(new PointerEvent("pointermove", {clientX: mark.x, clientY: mark.y}));""")
    first = small.sections[0].curve.query("run == 'base' and k == 1")["estimate"].item()
    (tip,) = texts(window, ".tip")
    assert tip.startswith(f"base, k = 1: {first:.3f} [")
    window.run(
        "document.querySelector('figure svg').dispatchEvent(new PointerEvent('pointerleave'))"
    )
    assert texts(window, ".tip") == []


def test_all_is_there_without_a_script(window, small):
    window.tool("Emulation.setScriptExecutionDisabled", value=True)
    try:
        window.open(small.page)
        assert texts(window, "button, input") == []
        assert texts(window, ".drill") == []
        window.run("document.querySelector('.sortable tbody details').open = true")
        assert len(texts(window, ".drill")) == 1
        assert window.run("return document.querySelectorAll('figure title').length") > 10
    finally:
        window.tool("Emulation.setScriptExecutionDisabled", value=False)


def test_names_stay_names(window, hostile):
    window.open(hostile.page)
    window.run(OPEN_ALL)
    assert window.run("return window.hacked ?? null") is None
    assert window.run("return document.images.length") == 0
    for selector in (".matrix a", ".legend button", ".verdict h3"):
        assert set(HOSTILE) <= set(texts(window, selector))


def test_loads_nothing_and_complains_of_nothing(window, many):
    window.open(many.page)
    window.run(OPEN_ALL)
    assert window.run("return performance.getEntriesByType('resource').length") == 0
    assert window.complaints() == []
