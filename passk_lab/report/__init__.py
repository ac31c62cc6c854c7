"""The answer on one page: did the training make the model better, or only narrower?"""

from passk_lab._lazy import lazy
from passk_lab.report.analysis import build_report
from passk_lab.report.model import FigureFiles, Report, Section, Settings

__all__ = ["FigureFiles", "Report", "Section", "Settings", "build_report"]

__getattr__, __dir__ = lazy(__name__, __all__)
