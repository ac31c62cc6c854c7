"""Generate numerical questions from physics and chemistry; see README.md beside this file.

    python data/science/make.py

It needs pint (extra ``train``). Every answer is computed on quantities with their units, so a
formula of the wrong dimension can't pass; `tests/tasks/test_science_questions.py` computes them
again, in plain numbers.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pint

from passk_lab.rollouts import atomic_write

HERE = Path(__file__).parent
TOLERANCE = 0.02
SEED = 0
EACH = 6  # questions of a template

units = pint.UnitRegistry()
Q = units.Quantity

# Standard atomic weights (IUPAC, abridged), g/mol.
WEIGHTS = {
    "H": 1.008, "C": 12.011, "N": 14.007, "O": 15.999, "F": 18.998, "Na": 22.990, "Mg": 24.305,
    "Al": 26.982, "Si": 28.085, "P": 30.974, "S": 32.06, "Cl": 35.45, "K": 39.098, "Ca": 40.078,
    "Fe": 55.845, "Cu": 63.546, "Zn": 65.38, "Br": 79.904, "Ag": 107.868, "I": 126.904,
}  # fmt: skip

SUBSTANCES = {
    "water (H2O)": {"H": 2, "O": 1},
    "carbon dioxide (CO2)": {"C": 1, "O": 2},
    "sodium chloride (NaCl)": {"Na": 1, "Cl": 1},
    "glucose (C6H12O6)": {"C": 6, "H": 12, "O": 6},
    "calcium carbonate (CaCO3)": {"Ca": 1, "C": 1, "O": 3},
    "ammonia (NH3)": {"N": 1, "H": 3},
    "sulfuric acid (H2SO4)": {"H": 2, "S": 1, "O": 4},
    "methane (CH4)": {"C": 1, "H": 4},
    "ethanol (C2H6O)": {"C": 2, "H": 6, "O": 1},
    "sodium hydroxide (NaOH)": {"Na": 1, "O": 1, "H": 1},
    "magnesium oxide (MgO)": {"Mg": 1, "O": 1},
    "potassium nitrate (KNO3)": {"K": 1, "N": 1, "O": 3},
    "iron(III) oxide (Fe2O3)": {"Fe": 2, "O": 3},
    "copper(II) sulfate (CuSO4)": {"Cu": 1, "S": 1, "O": 4},
    "silver nitrate (AgNO3)": {"Ag": 1, "N": 1, "O": 3},
    "zinc chloride (ZnCl2)": {"Zn": 1, "Cl": 2},
    "benzene (C6H6)": {"C": 6, "H": 6},
    "urea (CH4N2O)": {"C": 1, "H": 4, "N": 2, "O": 1},
}
SOLUTES = ["sodium chloride (NaCl)", "glucose (C6H12O6)", "potassium nitrate (KNO3)",
           "sodium hydroxide (NaOH)", "urea (CH4N2O)", "silver nitrate (AgNO3)"]  # fmt: skip
METALS = {"aluminium": (0.897, 2.70), "copper": (0.385, 8.96), "iron": (0.449, 7.87),
          "lead": (0.129, 11.34), "silver": (0.235, 10.49), "gold": (0.129, 19.30)}  # fmt: skip
# Charge carried by a mole of the metal when it is deposited, in moles of electrons.
DEPOSITED = {"silver (from Ag+)": ("Ag", 1), "copper (from Cu2+)": ("Cu", 2),
             "zinc (from Zn2+)": ("Zn", 2), "aluminium (from Al3+)": ("Al", 3)}  # fmt: skip

GRAVITY = Q(9.81, "m/s^2")
GAS = Q(8.314, "J/(mol*K)")
FARADAY = Q(96485, "C/mol")
AVOGADRO = Q(6.022e23, "1/mol")
LIGHT = Q(2.998e8, "m/s")
PLANCK = Q(6.626e-34, "J*s")
COULOMB = Q(8.988e9, "N*m^2/C^2")
SOUND = Q(343, "m/s")
BOLTZMANN = Q(1.381e-23, "J/K")
STEFAN = Q(5.670e-8, "W/(m^2*K^4)")
NEWTON = Q(6.674e-11, "N*m^2/kg^2")
ELECTRON = Q(9.109e-31, "kg")
WATER_HEAT = Q(4.186, "J/(g*K)")


def molar_mass(substance: str) -> Any:
    """Molar mass of a substance in `SUBSTANCES`."""
    return Q(sum(WEIGHTS[e] * n for e, n in SUBSTANCES[substance].items()), "g/mol")


@dataclass(frozen=True)
class Grid:
    """A number that is drawn from low, low + step, ... up to high, and its unit."""

    low: float
    high: float
    step: float
    unit: str = ""

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one, free of binary dust."""
        place = int(rng.integers(round((self.high - self.low) / self.step) + 1))
        return float(f"{self.low + place * self.step:.10g}")


@dataclass(frozen=True)
class Template:
    """A kind of question.

    Attributes
    ----------
    name, domain : str
    text : str
        A format with the parameters' names.
    unit : str
        Unit of the answer.
    parameters : mapping of str to Grid or list of str
        What is drawn: a number, or one of some names.
    solve : callable
        Takes the parameters (numbers as quantities), gives the answer as a quantity.
    """

    name: str
    domain: str
    text: str
    unit: str
    parameters: Mapping[str, Grid | list[str]]
    solve: Callable[..., Any]


def physics(name: str, unit: str, text: str, solve: Callable[..., Any], **parameters: Any) -> None:
    TEMPLATES.append(Template(name, "Physics", text, unit, parameters, solve))


def chemistry(
    name: str, unit: str, text: str, solve: Callable[..., Any], **parameters: Any
) -> None:
    TEMPLATES.append(Template(name, "Chemistry", text, unit, parameters, solve))


TEMPLATES: list[Template] = []

# Mechanics

physics(
    "average_speed", "km/h",
    "A train covers {d} km in {t} min. What is its average speed, in km/h?",
    lambda d, t: d / t,
    d=Grid(20, 180, 5, "km"), t=Grid(20, 120, 5, "min"),
)  # fmt: skip
physics(
    "speed_units", "m/s",
    "A cyclist rides at {v} km/h. What is this speed in m/s?",
    lambda v: v,
    v=Grid(12, 60, 1, "km/h"),
)  # fmt: skip
physics(
    "acceleration", "m/s^2",
    "A car speeds up from {u} m/s to {v} m/s in {t} s. What is its mean acceleration, in m/s^2?",
    lambda u, v, t: (v - u) / t,
    u=Grid(2, 12, 1, "m/s"), v=Grid(15, 40, 1, "m/s"), t=Grid(2, 12, 0.5, "s"),
)  # fmt: skip
physics(
    "free_fall_speed", "m/s",
    "A stone falls from rest through {h} m. Take g = 9.81 m/s^2 and neglect air resistance. How "
    "fast is it then, in m/s?",
    lambda h: (2 * GRAVITY * h) ** 0.5,
    h=Grid(2, 90, 1, "m"),
)  # fmt: skip
physics(
    "free_fall_time", "s",
    "A ball is dropped from a height of {h} m. Take g = 9.81 m/s^2 and neglect air resistance. "
    "How long does it fall, in s?",
    lambda h: (2 * h / GRAVITY) ** 0.5,
    h=Grid(3, 120, 1, "m"),
)  # fmt: skip
physics(
    "projectile_range", "m",
    "A ball leaves level ground at {v} m/s and {angle} degrees above the horizontal. Take "
    "g = 9.81 m/s^2 and neglect air resistance. How far away does it land, in m?",
    lambda v, angle: v**2 * math.sin(2 * angle.m_as("rad")) / GRAVITY,
    v=Grid(8, 40, 1, "m/s"), angle=Grid(20, 70, 5, "degree"),
)  # fmt: skip
physics(
    "newton_second_law", "N",
    "What force gives a body of {m} kg an acceleration of {a} m/s^2? Answer in N.",
    lambda m, a: m * a,
    m=Grid(2, 90, 1, "kg"), a=Grid(0.5, 9.5, 0.5, "m/s^2"),
)  # fmt: skip
physics(
    "friction", "N",
    "A crate of {m} kg slides on a level floor; the coefficient of kinetic friction is {mu}. Take "
    "g = 9.81 m/s^2. How large is the friction, in N?",
    lambda m, mu: mu * m * GRAVITY,
    m=Grid(5, 80, 1, "kg"), mu=Grid(0.1, 0.6, 0.05),
)  # fmt: skip
physics(
    "kinetic_energy", "J",
    "What is the kinetic energy of a body of {m} kg that moves at {v} m/s? Answer in J.",
    lambda m, v: m * v**2 / 2,
    m=Grid(1, 60, 1, "kg"), v=Grid(2, 30, 1, "m/s"),
)  # fmt: skip
physics(
    "lifting_power", "W",
    "A winch lifts {m} kg through {h} m in {t} s. Take g = 9.81 m/s^2. What power does it deliver "
    "to the load, in W?",
    lambda m, h, t: m * GRAVITY * h / t,
    m=Grid(20, 300, 10, "kg"), h=Grid(2, 25, 1, "m"), t=Grid(4, 60, 2, "s"),
)  # fmt: skip
physics(
    "inelastic_collision", "m/s",
    "A cart of {m} kg at {v} m/s runs into a cart of {n} kg at rest and sticks to it. How fast do "
    "they go on, in m/s?",
    lambda m, v, n: m * v / (m + n),
    m=Grid(1, 12, 0.5, "kg"), v=Grid(1, 12, 0.5, "m/s"), n=Grid(1, 12, 0.5, "kg"),
)  # fmt: skip
physics(
    "centripetal_force", "N",
    "A mass of {m} g moves in a circle of radius {r} cm at {v} m/s. What force towards the centre "
    "does it need, in N?",
    lambda m, r, v: m * v**2 / r,
    m=Grid(50, 900, 50, "g"), r=Grid(20, 150, 5, "cm"), v=Grid(1, 8, 0.5, "m/s"),
)  # fmt: skip
physics(
    "spring_energy", "J",
    "How much energy is stored in a spring of {k} N/m that is stretched by {x} cm? Answer in J.",
    lambda k, x: k * x**2 / 2,
    k=Grid(50, 900, 10, "N/m"), x=Grid(2, 30, 1, "cm"),
)  # fmt: skip
physics(
    "pendulum_period", "s",
    "What is the period of a simple pendulum of length {s} cm for small swings, in s? Take "
    "g = 9.81 m/s^2.",
    lambda s: 2 * math.pi * (s / GRAVITY) ** 0.5,
    s=Grid(15, 300, 5, "cm"),
)  # fmt: skip
physics(
    "gravitation", "m/s^2",
    "A planet has a mass of {m}e24 kg and a radius of {r} km. With G = 6.674e-11 N m^2/kg^2, what "
    "is the acceleration of free fall at its surface, in m/s^2?",
    lambda m, r: NEWTON * m * 1e24 / r**2,
    m=Grid(0.5, 9.5, 0.1, "kg"), r=Grid(3000, 9000, 100, "km"),
)  # fmt: skip

# Matter, heat, waves

physics(
    "density", "g/cm^3",
    "A block of {v} cm^3 has a mass of {m} kg. What is its density, in g/cm^3?",
    lambda v, m: m / v,
    v=Grid(50, 900, 10, "cm^3"), m=Grid(0.2, 6, 0.1, "kg"),
)  # fmt: skip
physics(
    "hydrostatic_pressure", "kPa",
    "By how much does the pressure rise from the surface of a lake (density 1000 kg/m^3) to a "
    "depth of {h} m? Take g = 9.81 m/s^2 and answer in kPa.",
    lambda h: Q(1000, "kg/m^3") * GRAVITY * h,
    h=Grid(2, 80, 0.5, "m"),
)  # fmt: skip
physics(
    "pressure", "kPa",
    "A force of {f} N acts evenly on an area of {a} cm^2. What pressure is that, in kPa?",
    lambda f, a: f / a,
    f=Grid(20, 900, 10, "N"), a=Grid(5, 200, 5, "cm^2"),
)  # fmt: skip
physics(
    "heating_water", "kJ",
    "How much heat warms {m} g of water by {dt} K? The specific heat is 4.186 J/(g K). Answer in "
    "kJ.",
    lambda m, dt: m * WATER_HEAT * dt,
    m=Grid(50, 2000, 50, "g"), dt=Grid(5, 70, 1, "K"),
)  # fmt: skip
physics(
    "mixing_water", "K",
    "{m} g of water at {hot} K and {n} g of water at {cold} K are mixed without loss of heat. What "
    "is the final temperature, in K?",
    lambda m, hot, n, cold: (m * hot + n * cold) / (m + n),
    m=Grid(50, 500, 50, "g"), hot=Grid(330, 370, 1, "K"), n=Grid(50, 500, 50, "g"),
    cold=Grid(275, 300, 1, "K"),
)  # fmt: skip
physics(
    "specific_heat", "kJ",
    "How much heat does {m} kg of {metal} take up when it warms by {dt} K? Its specific heat is "
    "{metal:heat} J/(g K). Answer in kJ.",
    lambda m, metal, dt: m * Q(METALS[metal][0], "J/(g*K)") * dt,
    m=Grid(0.2, 8, 0.1, "kg"), metal=list(METALS), dt=Grid(10, 200, 5, "K"),
)  # fmt: skip
physics(
    "carnot_efficiency", "%",
    "What is the largest possible efficiency of a heat engine between {hot} K and {cold} K, in %?",
    lambda hot, cold: 1 - cold / hot,
    hot=Grid(420, 1200, 10, "K"), cold=Grid(270, 330, 5, "K"),
)  # fmt: skip
physics(
    "black_body", "W",
    "A black surface of {a} cm^2 is at {t} K. With a Stefan-Boltzmann constant of "
    "5.670e-8 W/(m^2 K^4), what power does it radiate, in W?",
    lambda a, t: STEFAN * a * t**4,
    a=Grid(10, 400, 10, "cm^2"), t=Grid(300, 1500, 25, "K"),
)  # fmt: skip
physics(
    "wavelength", "m",
    "A sound of {f} Hz travels at 343 m/s. What is its wavelength, in m?",
    lambda f: SOUND / f,
    f=Grid(60, 4000, 20, "Hz"),
)  # fmt: skip
physics(
    "echo", "m",
    "An echo comes back {t} s after the call. Sound travels at 343 m/s. How far away is the wall, "
    "in m?",
    lambda t: SOUND * t / 2,
    t=Grid(0.2, 5, 0.05, "s"),
)  # fmt: skip
physics(
    "photon_energy", "eV",
    "What is the energy of a photon of wavelength {w} nm, in eV? Take h = 6.626e-34 J s, "
    "c = 2.998e8 m/s and 1 eV = 1.602e-19 J.",
    lambda w: PLANCK * LIGHT / w,
    w=Grid(120, 900, 5, "nm"),
)  # fmt: skip
physics(
    "thin_lens", "cm",
    "An object stands {g} cm in front of a converging lens with a focal length of {f} cm. How far "
    "behind the lens is its image, in cm?",
    lambda g, f: g * f / (g - f),
    g=Grid(30, 120, 2, "cm"), f=Grid(5, 25, 1, "cm"),
)  # fmt: skip
physics(
    "de_broglie", "nm",
    "What is the de Broglie wavelength of an electron at {v}e6 m/s, in nm? Take "
    "h = 6.626e-34 J s and a mass of 9.109e-31 kg.",
    lambda v: PLANCK / (ELECTRON * v * 1e6),
    v=Grid(0.5, 9.5, 0.1, "m/s"),
)  # fmt: skip

# Electricity

physics(
    "ohm", "mA",
    "A resistor of {r} ohm is connected to {u} V. What current flows, in mA?",
    lambda r, u: u / r,
    r=Grid(50, 2000, 10, "ohm"), u=Grid(1.5, 24, 0.5, "V"),
)  # fmt: skip
physics(
    "parallel_resistors", "ohm",
    "Two resistors of {r} ohm and {s} ohm are connected in parallel. What is their joint "
    "resistance, in ohm?",
    lambda r, s: r * s / (r + s),
    r=Grid(10, 500, 10, "ohm"), s=Grid(10, 500, 10, "ohm"),
)  # fmt: skip
physics(
    "electric_energy", "kWh",
    "A heater of {p} W runs for {t} h. How much energy does it use, in kWh?",
    lambda p, t: p * t,
    p=Grid(200, 3000, 50, "W"), t=Grid(0.5, 24, 0.5, "h"),
)  # fmt: skip
physics(
    "coulomb_force", "N",
    "Two small spheres carry {q} µC and {p} µC and are {r} cm apart. With "
    "k = 8.988e9 N m^2/C^2, how large is the force between them, in N?",
    lambda q, p, r: COULOMB * q * p / r**2,
    q=Grid(0.5, 9.5, 0.5, "µC"), p=Grid(0.5, 9.5, 0.5, "µC"), r=Grid(5, 60, 1, "cm"),
)  # fmt: skip
physics(
    "capacitor_charge", "mC",
    "What charge is on a capacitor of {c} µF at {u} V? Answer in mC.",
    lambda c, u: c * u,
    c=Grid(10, 900, 10, "µF"), u=Grid(3, 48, 1, "V"),
)  # fmt: skip
physics(
    "magnetic_force", "mN",
    "A straight wire of {s} cm carries {i} A at right angles to a field of {b} mT. What force acts "
    "on it, in mN?",
    lambda s, i, b: b * i * s,
    s=Grid(5, 80, 1, "cm"), i=Grid(0.5, 12, 0.5, "A"), b=Grid(10, 400, 10, "mT"),
)  # fmt: skip
physics(
    "half_life", "mg",
    "A sample holds {m} mg of a nuclide with a half-life of {h} d. How much is left after {t} d, "
    "in mg?",
    lambda m, h, t: m * 0.5 ** (t / h).m_as(""),
    m=Grid(20, 900, 10, "mg"), h=Grid(2, 30, 1, "day"), t=Grid(5, 60, 1, "day"),
)  # fmt: skip

# Chemistry

chemistry(
    "molar_mass", "g/mol",
    "What is the molar mass of {s}, in g/mol?",
    lambda s: molar_mass(s),
    s=list(SUBSTANCES),
)  # fmt: skip
chemistry(
    "mass_of_moles", "g",
    "What is the mass of {n} mol of {s}, in g?",
    lambda n, s: n * molar_mass(s),
    n=Grid(0.1, 5, 0.05, "mol"), s=list(SUBSTANCES),
)  # fmt: skip
chemistry(
    "moles_of_mass", "mol",
    "How many moles are {m} g of {s}? Answer in mol.",
    lambda m, s: m / molar_mass(s),
    m=Grid(2, 300, 1, "g"), s=list(SUBSTANCES),
)  # fmt: skip
chemistry(
    "molecules", "",
    "How many molecules are in {m} g of {s}? The Avogadro constant is 6.022e23 1/mol.",
    lambda m, s: m / molar_mass(s) * AVOGADRO,
    m=Grid(1, 90, 1, "g"),
    s=["water (H2O)", "carbon dioxide (CO2)", "ammonia (NH3)", "methane (CH4)", "benzene (C6H6)"],
)  # fmt: skip
chemistry(
    "mass_percent", "%",
    "What share of the mass of {s} is oxygen, in %?",
    lambda s: Q(SUBSTANCES[s]["O"] * WEIGHTS["O"], "g/mol") / molar_mass(s),
    s=[name for name, atoms in SUBSTANCES.items() if "O" in atoms],
)  # fmt: skip
chemistry(
    "molarity", "mol/L",
    "{m} g of {s} is dissolved in water to {v} mL of solution. What is its concentration, in "
    "mol/L?",
    lambda m, s, v: m / molar_mass(s) / v,
    m=Grid(1, 60, 0.5, "g"), s=SOLUTES, v=Grid(100, 2000, 50, "mL"),
)  # fmt: skip
chemistry(
    "solute_mass", "g",
    "How much {s} is needed for {v} mL of a solution of {c} mol/L, in g?",
    lambda s, v, c: c * v * molar_mass(s),
    s=SOLUTES, v=Grid(50, 1000, 50, "mL"), c=Grid(0.05, 2, 0.05, "mol/L"),
)  # fmt: skip
chemistry(
    "dilution", "mL",
    "What volume of a solution of {c} mol/L has to be diluted to get {v} mL of {d} mol/L? Answer "
    "in mL.",
    lambda c, v, d: d * v / c,
    c=Grid(2, 12, 0.5, "mol/L"), v=Grid(50, 1000, 50, "mL"), d=Grid(0.05, 1.5, 0.05, "mol/L"),
)  # fmt: skip
chemistry(
    "neutralisation", "mL",
    "How much sodium hydroxide solution of {c} mol/L neutralises {v} mL of hydrochloric acid of "
    "{d} mol/L? Answer in mL.",
    lambda c, v, d: d * v / c,
    c=Grid(0.05, 1, 0.05, "mol/L"), v=Grid(10, 100, 5, "mL"), d=Grid(0.05, 1, 0.05, "mol/L"),
)  # fmt: skip
chemistry(
    "ideal_gas_volume", "L",
    "What volume do {n} mol of an ideal gas take at {t} K and {p} kPa, in L? Take "
    "R = 8.314 J/(mol K).",
    lambda n, t, p: n * GAS * t / p,
    n=Grid(0.1, 6, 0.1, "mol"), t=Grid(260, 500, 5, "K"), p=Grid(60, 300, 5, "kPa"),
)  # fmt: skip
chemistry(
    "ideal_gas_pressure", "kPa",
    "{n} mol of an ideal gas are in a vessel of {v} L at {t} K. What is the pressure, in kPa? Take "
    "R = 8.314 J/(mol K).",
    lambda n, v, t: n * GAS * t / v,
    n=Grid(0.2, 8, 0.1, "mol"), v=Grid(2, 60, 1, "L"), t=Grid(260, 500, 5, "K"),
)  # fmt: skip
chemistry(
    "boyle", "kPa",
    "A gas at {p} kPa takes {v} L. It is brought to {w} L at the same temperature. What is its "
    "pressure then, in kPa?",
    lambda p, v, w: p * v / w,
    p=Grid(80, 300, 5, "kPa"), v=Grid(1, 12, 0.5, "L"), w=Grid(1, 12, 0.5, "L"),
)  # fmt: skip
chemistry(
    "charles", "L",
    "A gas takes {v} L at {t} K. What volume does it take at {u} K and the same pressure, in L?",
    lambda v, t, u: v * u / t,
    v=Grid(1, 15, 0.5, "L"), t=Grid(260, 320, 5, "K"), u=Grid(330, 600, 5, "K"),
)  # fmt: skip
chemistry(
    "ph_of_acid", "",
    "What is the pH of hydrochloric acid of {c} mmol/L, which dissociates wholly?",
    lambda c: Q(-math.log10(c.m_as("mol/L")), ""),
    c=Grid(0.1, 90, 0.1, "mmol/L"),
)  # fmt: skip
chemistry(
    "burning_methane", "g",
    "How much carbon dioxide forms when {m} g of methane (CH4) burns completely, in g?",
    lambda m: m / molar_mass("methane (CH4)") * molar_mass("carbon dioxide (CO2)"),
    m=Grid(2, 200, 1, "g"),
)  # fmt: skip
chemistry(
    "decomposing_carbonate", "g",
    "How much carbon dioxide escapes when {m} g of calcium carbonate decomposes to calcium oxide, "
    "in g?",
    lambda m: m / molar_mass("calcium carbonate (CaCO3)") * molar_mass("carbon dioxide (CO2)"),
    m=Grid(5, 500, 5, "g"),
)  # fmt: skip
chemistry(
    "percent_yield", "%",
    "A synthesis could give {t} g of a product and gives {m} g. What is the yield, in %?",
    lambda t, m: m / t,
    t=Grid(20, 90, 1, "g"), m=Grid(2, 19, 0.5, "g"),
)  # fmt: skip
chemistry(
    "electrolysis", "g",
    "How much {metal} does a current of {i} A deposit in {t} min, in g? The Faraday constant is "
    "96485 C/mol.",
    lambda metal, i, t: (
        Q(WEIGHTS[DEPOSITED[metal][0]], "g/mol") * i * t / (DEPOSITED[metal][1] * FARADAY)
    ),
    metal=list(DEPOSITED), i=Grid(0.5, 10, 0.5, "A"), t=Grid(5, 120, 5, "min"),
)  # fmt: skip
chemistry(
    "first_order", "min",
    "A first-order reaction has a rate constant of {k} 1/min. What is its half-life, in min?",
    lambda k: math.log(2) / k,
    k=Grid(0.01, 0.9, 0.01, "1/min"),
)  # fmt: skip
chemistry(
    "arrhenius", "",
    "The activation energy of a reaction is {e} kJ/mol. By what factor does its rate constant grow "
    "from {t} K to {u} K? Take R = 8.314 J/(mol K) and the same pre-exponential factor.",
    lambda e, t, u: Q(math.exp((e / GAS * (1 / t - 1 / u)).m_as("")), ""),
    e=Grid(20, 100, 5, "kJ/mol"), t=Grid(290, 310, 5, "K"), u=Grid(315, 350, 5, "K"),
)  # fmt: skip
chemistry(
    "reaction_enthalpy", "kJ",
    "Burning a mole of ethanol (C2H6O) sets 1367 kJ free. How much heat do {m} g give, in kJ?",
    lambda m: Q(1367, "kJ/mol") * m / molar_mass("ethanol (C2H6O)"),
    m=Grid(2, 250, 1, "g"),
)  # fmt: skip
chemistry(
    "mean_speed", "m/s",
    "What is the root mean square speed of molecules of {s} at {t} K, in m/s? Take "
    "R = 8.314 J/(mol K).",
    lambda s, t: (3 * GAS * t / molar_mass(s)) ** 0.5,
    s=["carbon dioxide (CO2)", "ammonia (NH3)", "methane (CH4)", "water (H2O)"],
    t=Grid(250, 900, 10, "K"),
)  # fmt: skip


def show(text: str, values: Mapping[str, Any]) -> str:
    """Fill a template's text in; "{metal:heat}" is the specific heat of the metal."""
    if "{metal:heat}" in text:
        text = text.replace("{metal:heat}", str(METALS[values["metal"]][0]))
    return text.format(**{k: f"{v:g}" if isinstance(v, float) else v for k, v in values.items()})


def questions(template: Template, number: int, each: int, seed: int) -> Iterator[dict[str, Any]]:
    """Draw the questions of a template, no two of them alike."""
    rng = np.random.default_rng([seed, number])
    seen = set()
    while len(seen) < each:
        values = {
            name: spec.draw(rng) if isinstance(spec, Grid) else spec[int(rng.integers(len(spec)))]
            for name, spec in template.parameters.items()
        }
        text = show(template.text, values)
        if text in seen:
            continue
        seen.add(text)
        given = {
            name: Q(values[name], spec.unit) if isinstance(spec, Grid) else values[name]
            for name, spec in template.parameters.items()
        }
        answer = template.solve(**given).m_as(template.unit or "dimensionless")
        yield {
            "question": text,
            "answer": f"{spell(answer)} {template.unit}".rstrip(),
            "tolerance": TOLERANCE,
            "type": "number",
            "domain": template.domain,
            "details": {"task": template.name, "parameters": values},
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
    return [
        question
        for number, template in enumerate(TEMPLATES)
        for question in questions(template, number, each, seed)
    ]


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
