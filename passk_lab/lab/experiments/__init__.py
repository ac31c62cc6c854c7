"""Experiments that run from start to finish: `passk-lab train --suite NAME`."""
