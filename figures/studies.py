"""Every study, in the order of the page."""

import paths  # noqa: F401 - registers most figures of PATHS
import settings  # noqa: F401 - registers the last figure of CONCEPTS
import survival  # noqa: F401 - registers figure 8
from categories import CATEGORIES
from conditions import CONCEPTS
from countdown import COUNTDOWN
from mechanism import mechanism  # noqa: F401 - registers a figure of PATHS
from paper import PAPER
from published import PUBLISHED
from science import SCIENCE
from teacher import TEACHER
from theory import THEORY
from tradeoff import PATHS

STUDIES = (PUBLISHED, PATHS, TEACHER, SCIENCE, CATEGORIES, CONCEPTS, PAPER, THEORY, COUNTDOWN)
