"""The answer on one page: did the training make the model better, or only narrower?"""

from passk_lab.report._outlook import WEIGHTS, Outlook, outlook
from passk_lab.report.analysis import build_report, worst_problems
from passk_lab.report.model import FigureFiles, Report, Section, Settings

__all__ = [
    "WEIGHTS",
    "FigureFiles",
    "Outlook",
    "Report",
    "Section",
    "Settings",
    "build_report",
    "outlook",
    "worst_problems",
]
