"""Every shipped question is solved again, in plain numbers and by other formulas."""

import importlib.util
import json
import math
import re
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "data" / "science"
QUESTIONS = [json.loads(line) for line in (FOLDER / "questions.jsonl").read_text().splitlines()]
ATOMS = {
    "H": 1.008, "C": 12.011, "N": 14.007, "O": 15.999, "Na": 22.99, "Mg": 24.305, "Al": 26.982,
    "S": 32.06, "Cl": 35.45, "K": 39.098, "Ca": 40.078, "Fe": 55.845, "Cu": 63.546, "Zn": 65.38,
    "Ag": 107.868,
}  # fmt: skip
HEAT = {"aluminium": 0.897, "copper": 0.385, "iron": 0.449, "lead": 0.129, "silver": 0.235,
        "gold": 0.129}  # fmt: skip


def mass(substance):
    """Molar mass from the formula in brackets, g/mol."""
    formula = substance.rpartition("(")[2].rstrip(")")
    return sum(ATOMS[e] * int(n or 1) for e, n in re.findall(r"([A-Z][a-z]?)(\d*)", formula))


def deposited(metal):
    ion = re.search(r"([A-Z][a-z]?)(\d?)\+", metal)
    return ATOMS[ion[1]] / int(ion[2] or 1)


# Parameters are in the units of the question's text, results in the unit that it asks for.
SOLUTIONS = {
    "average_speed": lambda d, t: d / (t / 60),
    "speed_units": lambda v: v / 3.6,
    "acceleration": lambda u, v, t: (v - u) / t,
    "free_fall_speed": lambda h: 9.81 * math.sqrt(2 * h / 9.81),
    "free_fall_time": lambda h: math.sqrt(h / 4.905),
    "projectile_range": lambda v, angle: (
        # Twice the time up, at the horizontal speed.
        2 * v * math.sin(math.radians(angle)) / 9.81 * v * math.cos(math.radians(angle))
    ),
    "newton_second_law": lambda m, a: m * a,
    "friction": lambda m, mu: mu * m * 9.81,
    "kinetic_energy": lambda m, v: 0.5 * m * v * v,
    "lifting_power": lambda m, h, t: 9.81 * m * (h / t),
    "inelastic_collision": lambda m, v, n: v / (1 + n / m),
    "centripetal_force": lambda m, r, v: (m / 1000) * v**2 / (r / 100),
    "spring_energy": lambda k, x: k * (x / 100) ** 2 / 2,
    "pendulum_period": lambda s: 2 * math.pi * math.sqrt(s / 981),
    "gravitation": lambda m, r: 6.674e-11 * m * 1e24 / (r * 1000) ** 2,
    "density": lambda v, m: 1000 * m / v,
    "hydrostatic_pressure": lambda h: 9.81 * h,
    "pressure": lambda f, a: f / (a * 1e-4) / 1000,
    "heating_water": lambda m, dt: m / 1000 * 4.186 * dt,
    "mixing_water": lambda m, hot, n, cold: cold + (hot - cold) * m / (m + n),
    "specific_heat": lambda m, metal, dt: m * HEAT[metal] * dt,
    "carnot_efficiency": lambda hot, cold: 100 * (hot - cold) / hot,
    "black_body": lambda a, t: 5.670e-8 * (a / 1e4) * t**4,
    "wavelength": lambda f: 343 / f,
    "echo": lambda t: 171.5 * t,
    "photon_energy": lambda w: 6.626e-34 * 2.998e8 / (w * 1e-9) / 1.602e-19,
    "thin_lens": lambda g, f: 1 / (1 / f - 1 / g),
    "de_broglie": lambda v: 6.626e-34 / (9.109e-31 * v * 1e6) * 1e9,
    "ohm": lambda r, u: 1000 * u / r,
    "parallel_resistors": lambda r, s: 1 / (1 / r + 1 / s),
    "electric_energy": lambda p, t: p / 1000 * t,
    "coulomb_force": lambda q, p, r: 8.988e9 * q * 1e-6 * p * 1e-6 / (r / 100) ** 2,
    "capacitor_charge": lambda c, u: c * u / 1000,
    "magnetic_force": lambda s, i, b: b * i * s / 100,
    "half_life": lambda m, h, t: m * math.exp(-math.log(2) * t / h),
    "molar_mass": lambda s: mass(s),
    "mass_of_moles": lambda n, s: n * mass(s),
    "moles_of_mass": lambda m, s: m / mass(s),
    "molecules": lambda m, s: m / mass(s) * 6.022e23,
    "mass_percent": lambda s: 100 * int(re.search(r"O(\d*)", s)[1] or 1) * 15.999 / mass(s),
    "molarity": lambda m, s, v: m / mass(s) / (v / 1000),
    "solute_mass": lambda s, v, c: c * v / 1000 * mass(s),
    "dilution": lambda c, v, d: v * d / c,
    "neutralisation": lambda c, v, d: v * d / c,
    "ideal_gas_volume": lambda n, t, p: n * 8.314 * t / p,
    "ideal_gas_pressure": lambda n, v, t: n * 8.314 * t / v,
    "boyle": lambda p, v, w: p * v / w,
    "charles": lambda v, t, u: v / t * u,
    "ph_of_acid": lambda c: 3 - math.log10(c),
    "burning_methane": lambda m: m * 44.009 / 16.043,
    "decomposing_carbonate": lambda m: m * 44.009 / 100.086,
    "percent_yield": lambda t, m: 100 * m / t,
    "electrolysis": lambda metal, i, t: deposited(metal) * i * t * 60 / 96485,
    "first_order": lambda k: 0.693147 / k,
    "arrhenius": lambda e, t, u: math.exp(-1000 * e / 8.314 / u) / math.exp(-1000 * e / 8.314 / t),
    "reaction_enthalpy": lambda m: 1367 / 46.069 * m,
    "mean_speed": lambda s, t: math.sqrt(3 * 8.314 * t / (mass(s) / 1000)),
}


@pytest.mark.parametrize("name", sorted(SOLUTIONS))
def test_answers(name):
    mine = [q for q in QUESTIONS if q["details"]["task"] == name]
    assert len(mine) == 6
    for question in mine:
        answer = float(question["answer"].split()[0])
        parameters = question["details"]["parameters"]
        # Four digits are given.
        assert answer == pytest.approx(SOLUTIONS[name](**parameters), rel=6e-4), question
        for value in parameters.values():
            shown = f"{value:g}" if isinstance(value, float) else value
            assert shown in question["question"]


def test_the_set():
    assert {q["details"]["task"] for q in QUESTIONS} == set(SOLUTIONS)
    assert len(QUESTIONS) >= 200
    assert len({q["question"] for q in QUESTIONS}) == len(QUESTIONS)
    assert {q["domain"] for q in QUESTIONS} == {"Physics", "Chemistry"}
    # The unit that the question asks for is the answer's.
    for question in QUESTIONS:
        unit = question["answer"].partition(" ")[2]
        assert unit in question["question"]


def test_the_script_makes_the_file():
    pytest.importorskip("pint")
    spec = importlib.util.spec_from_file_location("science_make", FOLDER / "make.py")
    make = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = make
    spec.loader.exec_module(make)
    assert make.make() == QUESTIONS
    assert make.make(each=3, seed=1) != make.make(each=3, seed=2)
