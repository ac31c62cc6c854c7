"""Checkpoints of a training run: whole or not there at all, and exact.

A run's folder holds ``checkpoint-000001``, ``checkpoint-000002``, ..., each with ``model/``, which
transformers loads on its own, ``checkpoint.json``, the configs of run and model, and ``state.pt``,
the caller's state, the optimizer and the global random states (read with ``weights_only=True``).

A checkpoint is written under another name, flushed to the disk and renamed, and only then an older
one is removed: whenever a run is killed, the newest one is whole. One process writes at a time.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import nn
from transformers.utils import logging

PathLike = str | os.PathLike[str]

_FORMAT = 2
_KEPT = 2
_NAME = re.compile(r"checkpoint-(\d+)")
_UNFINISHED, _REMOVED = ".unfinished", ".removed"
# What transformers notes beside the architecture, and changes between its versions.
_INCIDENTAL = {"_name_or_path", "architectures", "dtype", "transformers_version"}
_ABSENT = object()
_UNREADABLE = (
    OSError, ValueError, KeyError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError,
)  # fmt: skip


def save_checkpoint(
    folder: PathLike,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    state: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write the next checkpoint of a run into its folder, and keep the one before it.

    ``state`` is what else the run needs, numbers, texts, tensors and containers of these; loading
    refuses another ``config``. An OSError leaves the older checkpoints as they were.
    """
    folder = Path(folder)
    about = {"format": _FORMAT, "config": dict(config or {}), "model": _model_config(model)}
    optimized = None if optimizer is None else optimizer.state_dict()
    contents = {"state": dict(state or {}), "optimizer": optimized, "random": _random_states()}
    folder.mkdir(parents=True, exist_ok=True)
    for name in (_UNFINISHED, _REMOVED):  # left by a killed run
        if (folder / name).exists():
            shutil.rmtree(folder / name)
    unfinished = folder / _UNFINISHED
    try:
        unfinished.mkdir()
        _save_model(_plain(model), unfinished / "model")
        torch.save(contents, unfinished / "state.pt")
        (unfinished / "checkpoint.json").write_text(json.dumps(about, indent=1))
        _flush(unfinished)
        existing = list_checkpoints(folder)
        number = int(existing[-1].name.partition("-")[2]) + 1 if existing else 1
        target = folder / f"checkpoint-{number:06d}"
        os.rename(unfinished, target)
        _flush(folder, deep=False)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    for old in list_checkpoints(folder)[:-_KEPT]:
        # Renamed first: half removed, it would still look like a checkpoint.
        os.rename(old, folder / _REMOVED)
        shutil.rmtree(folder / _REMOVED)
    return target


def list_checkpoints(folder: PathLike) -> list[Path]:
    """Checkpoints in a run's folder, the oldest first; none if there is no such folder."""
    found = [p for p in Path(folder).glob("checkpoint-*") if _NAME.fullmatch(p.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def load_checkpoint(
    folder: PathLike,
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Load a run's newest checkpoint, or a given one, and return its state.

    Model, optimizer and the global random states are restored in place: the run then takes the same
    steps as one that was never stopped, bit for bit on the CPU, with the same versions and number
    of threads.

    Raises
    ------
    FileNotFoundError
        There is no checkpoint.
    ValueError
        Another config or model (the message names the fields), or a damaged file. Nothing has been
        restored then.
    """
    path, about, contents = _read(Path(folder))
    given = about["config"] if config is None else json.loads(json.dumps(config))
    differing = _differences(about["config"], given)
    if model is not None:
        here = _model_config(model)
        common = (about["model"].keys() & here.keys()) - _INCIDENTAL
        there = {"model": {name: about["model"][name] for name in common}}
        differing += _differences(there, {"model": {name: here[name] for name in common}})
    if differing:
        raise ValueError(
            f"{path} was saved with another config: {'; '.join(differing)}; use its settings, "
            "or another folder"
        )
    if model is not None:
        _check_weights(_plain(model), path / "model" / "model.safetensors")

    if optimizer is not None:  # first, for it checks its own groups
        optimizer.load_state_dict(contents["optimizer"])
    if model is not None:
        load_model(_plain(model), path / "model" / "model.safetensors")
    _restore(contents["random"])
    return dict(contents["state"])


def _read(path: Path) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    if not (path / "checkpoint.json").is_file():
        existing = list_checkpoints(path)
        if not existing and not _NAME.fullmatch(path.name):
            raise FileNotFoundError(
                f"{path} has no checkpoint; give the folder of a run, or one of its checkpoints"
            )
        path = existing[-1] if existing else path
    with _whole(path / "checkpoint.json"):
        about = json.loads((path / "checkpoint.json").read_text())
        version = about["format"]
    if version != _FORMAT:
        raise ValueError(f"{path} has format {version}, this version reads {_FORMAT}")
    with _whole(path / "state.pt"):
        return path, about, torch.load(path / "state.pt", map_location="cpu", weights_only=True)


@contextmanager
def _whole(file: Path) -> Iterator[None]:
    """Say which file can't be read, and what to do about it."""
    try:
        yield
    except _UNREADABLE as error:
        checkpoint = file.parents[file.parent.name == "model"]
        raise ValueError(
            f"{file} is missing or damaged ({error}); remove {checkpoint.name} to use the "
            "checkpoint before it"
        ) from error


def _flush(path: Path, deep: bool = True) -> None:
    """Have files and folder entries on the disk before going on."""
    for child in path.iterdir() if deep and path.is_dir() else ():
        _flush(child)
    if os.name == "nt" and path.is_dir():  # Windows can't, and needn't, flush a folder
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _plain(model: nn.Module) -> Any:
    """The model itself, where torch.compile has wrapped it."""
    return getattr(model, "_orig_mod", model)


def _save_model(model: Any, folder: Path) -> None:
    if not hasattr(model, "save_pretrained"):
        folder.mkdir()
        save_model(model, str(folder / "model.safetensors"))
        return
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # of writing one small file
    try:
        model.save_pretrained(folder, max_shard_size="1TB")
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_weights(model: nn.Module, file: Path) -> None:
    with _whole(file), safe_open(file, "pt") as saved:
        shapes = {name: tuple(saved.get_slice(name).get_shape()) for name in saved.keys()}  # noqa: SIM118
    own = model.state_dict()
    # Of weights that are tied, the file has one name only.
    held = {weights.data_ptr() for name, weights in own.items() if name in shapes}
    for name in sorted(shapes.keys() | own.keys()):
        there = shapes.get(name, "absent")
        here = tuple(own[name].shape) if name in own else "absent"
        if there != here and not (there == "absent" and own[name].data_ptr() in held):
            raise ValueError(f"{file} is of another model: {name} is {there} there and {here} here")


def _model_config(model: nn.Module) -> dict[str, Any]:
    config = getattr(_plain(model), "config", None)
    return dict(json.loads(config.to_json_string(use_diff=False))) if config is not None else {}


def _differences(there: Any, here: Any, name: str = "") -> list[str]:
    """One line for each field, dots leading into nested configs, that isn't the same."""
    if isinstance(there, dict) and isinstance(here, dict):
        return [
            line
            for field in sorted(there.keys() | here.keys())
            for line in _differences(
                there.get(field, _ABSENT), here.get(field, _ABSENT), f"{name}.{field}"
            )
        ]
    one, other = ("absent" if side is _ABSENT else repr(side) for side in (there, here))
    return [] if one == other else [f"{name[1:]} is {one} there and {other} here"]


def _random_states() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - other libraries draw from it
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.array(keys, dtype=np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def _restore(states: Mapping[str, Any]) -> None:
    random.setstate(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.device_count() == len(states["cuda"]):
        torch.cuda.set_rng_state_all(states["cuda"])
