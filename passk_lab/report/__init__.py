"""One page that answers: did the training make the model better, or only narrower?"""

from passk_lab.report.analysis import build_report, worst_problems
from passk_lab.report.figures import write_figures
from passk_lab.report.model import FigureFiles, Report, Section, Settings, overview
from passk_lab.report.outlook import WEIGHTS, Outlook, outlook

__all__ = [
    "WEIGHTS",
    "FigureFiles",
    "Outlook",
    "Report",
    "Section",
    "Settings",
    "build_report",
    "outlook",
    "overview",
    "worst_problems",
    "write_figures",
]
