"""Settings for all tests, and eyes to see colours with."""

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import settings
from matplotlib.colors import to_rgb

mpl.use("agg")  # no window, and no look for one

# A test isn't wrong because the machine is busy.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(params=["all", "protanomaly", "deuteranomaly", "tritanomaly"])
def seen(request):
    """Where a colour lies for these eyes (Machado et al. 2009); 2.3 apart can just be told."""
    colorspacious = pytest.importorskip("colorspacious")

    def place(color):
        rgb = np.array(to_rgb(color))
        if request.param != "all":
            space = {"name": "sRGB1+CVD", "cvd_type": request.param, "severity": 100}
            rgb = np.clip(colorspacious.cspace_convert(rgb, space, "sRGB1"), 0, 1)
        return colorspacious.cspace_convert(rgb, "sRGB1", "CAM02-UCS")

    return place


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the lab's tests and doctests: they need torch."""
    for item in items:
        if "lab" in item.path.parts[-3:-1]:
            item.add_marker("train")
