"""One page that answers: did the training make the model better, or only narrower?"""

from passk_lab.report.analysis import (
    FigureFiles,
    Report,
    Section,
    build_report,
    load_counts,
    overview,
    worst_problems,
    write_figures,
)
from passk_lab.report.outlook import WEIGHTS, Outlook, outlook

__all__ = [
    "WEIGHTS",
    "FigureFiles",
    "Outlook",
    "Report",
    "Section",
    "build_report",
    "load_counts",
    "outlook",
    "overview",
    "worst_problems",
    "write_figures",
]
