"""What parameters of a path task must fulfil."""

from __future__ import annotations

from typing import TYPE_CHECKING

from passk_lab.lab.tasks._path_documents import STYLES

if TYPE_CHECKING:
    from passk_lab.lab.tasks.paths import PathTask


def check_sizes(task: PathTask) -> None:
    """Refuse numbers of nodes, edges and paths that no graph has."""
    if not 2 <= task.max_nodes <= 100:
        raise ValueError(f"max_nodes: {task.max_nodes} must be between 2 and 100")
    if not 2 <= task.n_nodes <= task.max_nodes:
        raise ValueError(
            f"n_nodes: {task.n_nodes} must be between 2 and max_nodes, which is {task.max_nodes}"
        )
    for name, nodes in (("edges", task.n_nodes), ("larger_edges", task.max_nodes)):
        low, high = getattr(task, name)
        if not 1 <= low <= high <= nodes * (nodes - 1):
            raise ValueError(
                f"{name}: {(low, high)} must be a smallest and a largest number between 1 and "
                f"{nodes * (nodes - 1)}, the edges that {nodes} nodes can have"
            )
    if not 1 <= task.min_paths <= task.max_paths:
        raise ValueError(
            f"min_paths: {task.min_paths} must be between 1 and max_paths, which is "
            f"{task.max_paths}"
        )
    for name in ("n_concepts", "max_tries"):
        if getattr(task, name) < 1:
            raise ValueError(f"{name}: {getattr(task, name)} must be 1 or more")


def check_authors(task: PathTask) -> None:
    """Refuse shares that are none, and styles that are unknown."""
    for name in ("follow", "wrong", "wrong_after_demo", "demo_share", "waypoint_share"):
        if not 0 <= getattr(task, name) <= 1:
            raise ValueError(f"{name}: {getattr(task, name)} must be between 0 and 1")
    unknown = [style for style in task.styles if isinstance(style, str) and style not in STYLES]
    if unknown:
        raise ValueError(
            f"styles: unknown style {unknown[0]!r}; known are {', '.join(STYLES)}, or give a "
            "function of a PathTable"
        )
    if not task.styles or len(set(task.style_names)) < len(task.styles):
        raise ValueError(f"styles: {task.style_names} must be one or more, of different names")
    shares = task.style_shares
    if len(shares) != len(task.styles):
        raise ValueError(
            f"style_shares: {len(shares)} numbers for {len(task.styles)} styles; give one each"
        )
    if not all(share >= 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(
            f"style_shares: {shares} must be 0 or more and sum to 1, not {sum(shares)}"
        )
