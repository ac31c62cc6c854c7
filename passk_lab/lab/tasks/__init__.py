"""Tasks with a verifier: what training samples, encodes and checks. numpy only.

``base`` is the protocol that a task of your own fulfils. ``paths`` is path finding in small graphs,
where every correct answer can be enumerated and the law of the pre-training documents is known;
``concepts`` is the paper's Concept Graph; ``text`` makes a task of questions in words, as
``categories``, ``concept_text``, ``countdown`` and ``science_qa`` do.
"""

from passk_lab._lazy import lazy
from passk_lab.lab.tasks.base import Encoder, Task, check_task
from passk_lab.lab.tasks.categories import CategoryQuestion, CategoryTask, load_categories
from passk_lab.lab.tasks.concept_text import ConceptQuestion, ConceptTextTask
from passk_lab.lab.tasks.concepts import ConceptTask
from passk_lab.lab.tasks.countdown import CountdownTask, Game
from passk_lab.lab.tasks.paths import PathPrompt, PathTask
from passk_lab.lab.tasks.science_qa import Question, ScienceTask, load_questions
from passk_lab.lab.tasks.text import TextEncoder, TextTask, grade

__all__ = [
    "TASKS",
    "CategoryQuestion",
    "CategoryTask",
    "ConceptQuestion",
    "ConceptTask",
    "ConceptTextTask",
    "CountdownTask",
    "Encoder",
    "Game",
    "PathPrompt",
    "PathTask",
    "Question",
    "ScienceTask",
    "Task",
    "TextEncoder",
    "TextTask",
    "check_task",
    "grade",
    "load_categories",
    "load_questions",
]

__getattr__, __dir__ = lazy(__name__, __all__)

TASKS = {
    task.name: task
    for task in (CategoryTask, ConceptTask, ConceptTextTask, PathTask, ScienceTask, CountdownTask)
}
