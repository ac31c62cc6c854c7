"""Generate numerical questions from physics and chemistry; see README.md beside this file.

    python data/science/make.py

It needs pint (extra ``train``). The kinds of questions are in ``templates.tsv``. Every answer is
computed on quantities with their units, so a formula of the wrong dimension can't pass;
`tests/lab/tasks/test_science_questions.py` computes them again, in plain numbers.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Iterator
from math import exp, log, log10, pi, sin
from pathlib import Path
from typing import Any

import numpy as np
import pint

from passk_lab.rollouts import atomic_write

HERE = Path(__file__).parent
TOLERANCE = 0.02
SEED = 0
EACH = 6  # questions of a template

Q = pint.UnitRegistry().Quantity

# Standard atomic weights (IUPAC, abridged), g/mol.
WEIGHTS = {
    "H": 1.008, "C": 12.011, "N": 14.007, "O": 15.999, "Na": 22.990, "Mg": 24.305, "S": 32.06,
    "Al": 26.982, "Cl": 35.45, "K": 39.098, "Ca": 40.078, "Fe": 55.845, "Cu": 63.546, "Zn": 65.38,
    "Ag": 107.868,
}  # fmt: skip
SUBSTANCES = [
    "water (H2O)", "carbon dioxide (CO2)", "sodium chloride (NaCl)", "glucose (C6H12O6)",
    "calcium carbonate (CaCO3)", "ammonia (NH3)", "sulfuric acid (H2SO4)", "methane (CH4)",
    "ethanol (C2H6O)", "sodium hydroxide (NaOH)", "magnesium oxide (MgO)",
    "potassium nitrate (KNO3)", "iron(III) oxide (Fe2O3)", "copper(II) sulfate (CuSO4)",
    "silver nitrate (AgNO3)", "zinc chloride (ZnCl2)", "benzene (C6H6)", "urea (CH4N2O)",
]  # fmt: skip
SOLUTES = ["sodium chloride (NaCl)", "glucose (C6H12O6)", "potassium nitrate (KNO3)",
           "sodium hydroxide (NaOH)", "urea (CH4N2O)", "silver nitrate (AgNO3)"]  # fmt: skip
# Specific heat, J/(g K).
HEAT = {"aluminium": 0.897, "copper": 0.385, "iron": 0.449, "lead": 0.129, "silver": 0.235,
        "gold": 0.129}  # fmt: skip
# Charge carried by a mole of the metal when it is deposited, in moles of electrons.
DEPOSITED = {"silver (from Ag+)": ("Ag", 1), "copper (from Cu2+)": ("Cu", 2),
             "zinc (from Zn2+)": ("Zn", 2), "aluminium (from Al3+)": ("Al", 3)}  # fmt: skip


def atoms(substance: str) -> dict[str, int]:
    """Atoms of each element in the formula in brackets."""
    formula = substance.rpartition("(")[2]
    return {e: int(n or 1) for e, n in re.findall(r"([A-Z][a-z]?)(\d*)", formula)}


def molar_mass(substance: str) -> Any:
    return Q(sum(WEIGHTS[e] * n for e, n in atoms(substance).items()), "g/mol")


LISTS = {
    "SUBSTANCES": SUBSTANCES,
    "WITH_OXYGEN": [name for name in SUBSTANCES if "O" in atoms(name)],
    "SOLUTES": SOLUTES,
    "HEAT": list(HEAT),
    "DEPOSITED": list(DEPOSITED),
}
# What a template's answer may name besides its parameters.
NAMES: dict[str, Any] = {
    "exp": exp, "log": log, "log10": log10, "pi": pi, "sin": sin,
    "Q": Q, "WEIGHTS": WEIGHTS, "HEAT": HEAT, "DEPOSITED": DEPOSITED, "atoms": atoms,
    "molar_mass": molar_mass,
    "GRAVITY": Q(9.81, "m/s^2"),
    "NEWTON": Q(6.674e-11, "N*m^2/kg^2"),
    "GAS": Q(8.314, "J/(mol*K)"),
    "FARADAY": Q(96485, "C/mol"),
    "AVOGADRO": Q(6.022e23, "1/mol"),
    "STEFAN": Q(5.670e-8, "W/(m^2*K^4)"),
    "WATER_HEAT": Q(4.186, "J/(g*K)"),
    "SOUND": Q(343, "m/s"),
    "LIGHT": Q(2.998e8, "m/s"),
    "PLANCK": Q(6.626e-34, "J*s"),
    "ELECTRON": Q(9.109e-31, "kg"),
    "COULOMB": Q(8.988e9, "N*m^2/C^2"),
}  # fmt: skip


def draw(choice: str, rng: np.random.Generator) -> tuple[float | str, Any]:
    """Draw a value, and the same as a quantity.

    The choice is "low:high:step unit" (low, low + step, ... up to high, free of binary dust), a
    list's name, or names with bars between them.
    """
    if ":" in choice:
        grid, _, unit = choice.partition(" ")
        low, high, step = map(float, grid.split(":"))
        place = int(rng.integers(round((high - low) / step) + 1))
        value = float(f"{low + place * step:.10g}")
        return value, Q(value, unit)
    names = LISTS.get(choice) or choice.split("|")
    name = names[int(rng.integers(len(names)))]
    return name, name


def questions(
    template: dict[str, str], number: int, each: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Draw the questions of a template, no two of them alike."""
    rng = np.random.default_rng([seed, number])
    choices = dict(part.split("=") for part in template["parameters"].split("; "))
    seen: set[str] = set()
    while len(seen) < each:
        drawn = {name: draw(choice, rng) for name, choice in choices.items()}
        values = {name: value for name, (value, _) in drawn.items()}
        shown = {k: f"{v:g}" if isinstance(v, float) else v for k, v in values.items()}
        text = template["question"].format(**shown, heat=HEAT.get(shown.get("metal", "")))
        if text in seen:
            continue
        seen.add(text)
        given = {name: quantity for name, (_, quantity) in drawn.items()}
        answer = eval(template["answer"], NAMES | given).m_as(template["unit"])
        yield {
            "question": text,
            "answer": f"{spell(answer)} {template['unit']}".rstrip(),
            "tolerance": TOLERANCE,
            "type": "number",
            "domain": template["domain"],
            "details": {"task": template["name"], "parameters": values},
        }


def spell(value: float) -> str:
    """Write a number with four significant digits.

    Examples
    --------
    >>> spell(1234567.0), spell(0.5)
    ('1.235e6', '0.5')
    """
    mantissa, e, exponent = f"{value:.4g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def make(each: int = EACH, seed: int = SEED) -> list[dict[str, Any]]:
    """All questions, template by template."""
    with open(HERE / "templates.tsv", encoding="utf-8", newline="") as file:
        templates = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [q for i, template in enumerate(templates) for q in questions(template, i, each, seed)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=HERE / "questions.jsonl")
    parser.add_argument("--each", type=int, default=EACH, help="questions of a template")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    lines = [json.dumps(q, ensure_ascii=False) for q in make(arguments.each, arguments.seed)]
    with atomic_write(arguments.output) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
