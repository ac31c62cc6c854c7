"""Every study, in the order of the page."""

import paths  # noqa: F401 - registers most figures of PATHS
from countdown import COUNTDOWN
from science import SCIENCE
from teacher import TEACHER
from theory import THEORY
from tradeoff import PATHS

STUDIES = (PATHS, TEACHER, SCIENCE, THEORY, COUNTDOWN)
