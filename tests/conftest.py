"""Settings for all tests."""

from hypothesis import settings

# A test isn't wrong because the machine is busy.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
