"""Checkpoints of a training run: whole or not there at all, and exact.

A run's folder holds ``checkpoint-000001``, ``checkpoint-000002``, ..., each of them a folder:

- ``model/``: what transformers' ``save_pretrained`` writes, loadable on its own;
- ``checkpoint.json``: format, config and the caller's state (step and the like);
- ``optimizer.json`` and ``random.json``: the optimizer and all random generators;
- ``tensors.safetensors``: the tensors and arrays that these three refer to.

Nothing is pickled. A checkpoint is written under another name, flushed to the disk and renamed, and
only then an older one is removed. So whenever a run is killed, the newest checkpoint is a whole
one. One process at a time may write into a folder.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

__all__ = ["Checkpoint", "list_checkpoints", "load_checkpoint", "save_checkpoint"]

Generator = torch.Generator | np.random.Generator | random.Random
PathLike = str | os.PathLike[str]

_FORMAT = 1
_PARTS = ("checkpoint", "optimizer", "random")
_NAME = re.compile(r"checkpoint-(\d+)")
_UNFINISHED, _REMOVED = ".unfinished", ".removed"
# What transformers notes beside the architecture, and changes between its versions.
_INCIDENTAL = {"_name_or_path", "architectures", "dtype", "transformers_version"}


@dataclass(frozen=True)
class Checkpoint:
    """What `load_checkpoint` read, beside what it restored.

    Parameters
    ----------
    path : Path
        The checkpoint's folder.
    state : dict
        The caller's state; tensors on the CPU.
    config : dict
        The config that it was saved with.
    """

    path: Path
    state: dict[str, Any]
    config: dict[str, Any]


def save_checkpoint(
    folder: PathLike,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    state: Mapping[str, Any] | None = None,
    generators: Mapping[str, Generator] | None = None,
    config: Any = None,
    keep: int = 2,
) -> Path:
    """Write the next checkpoint of a run.

    Python's, numpy's and torch's global random states are always part of it.

    Parameters
    ----------
    folder : path
        Folder of the run's checkpoints; made if it is missing.
    model : nn.Module
        Model; one of transformers is saved with its config.
    optimizer : Optimizer, optional
        Its state is saved exactly.
    state : mapping, optional
        What else the run needs, ``{"step": 40}`` for example: numbers, strings, lists, tuples and
        mappings of these, tensors and arrays (an EMA teacher's ``state_dict()``).
    generators : mapping of str to generator, optional
        Random generators of torch, numpy or Python by name.
    config : dataclass or mapping, optional
        Settings of the run; loading refuses others.
    keep : int
        Number of checkpoints to keep.

    Returns
    -------
    Path
        The checkpoint's folder.

    Raises
    ------
    ValueError
        The state holds something that can't be saved (the message names it), or ``keep`` < 1.
    OSError
        The folder can't be written. Older checkpoints are as they were.

    Examples
    --------
    >>> import tempfile
    >>> model = nn.Linear(2, 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for step in range(3):
    ...         path = save_checkpoint(folder, model, state={"step": step}, keep=2)
    ...     names = [path.name for path in list_checkpoints(folder)]
    ...     loaded = load_checkpoint(folder, model)
    >>> names, loaded.state
    (['checkpoint-000002', 'checkpoint-000003'], {'step': 2})
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}")
    folder = Path(folder)
    contents = {
        "checkpoint": {
            "format": _FORMAT,
            "config": _plain_config(config),
            "model_config": _model_config(model),
            "state": dict(state or {}),
        },
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "random": {
            "global": _global_states(),
            "generators": {
                name: {"kind": _kind(one), "state": _state_of(one)}
                for name, one in (generators or {}).items()
            },
        },
    }
    tensors: dict[str, Tensor] = {}
    encoded = {part: _encode(contents[part], part, tensors) for part in _PARTS}

    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    unfinished = folder / _UNFINISHED
    try:
        unfinished.mkdir()
        _save_model(model, unfinished / "model")
        save_file(tensors, unfinished / "tensors.safetensors")
        for part in _PARTS:
            (unfinished / f"{part}.json").write_text(json.dumps(encoded[part], indent=1))
        _flush(unfinished)
        existing = list_checkpoints(folder)
        target = folder / f"checkpoint-{_number(existing[-1]) + 1 if existing else 1:06d}"
        os.rename(unfinished, target)
        _flush(folder, deep=False)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    for old in list_checkpoints(folder)[:-keep]:
        # Renamed first: half removed, it would still look like a checkpoint.
        os.rename(old, folder / _REMOVED)
        shutil.rmtree(folder / _REMOVED)
    return target


def list_checkpoints(folder: PathLike) -> list[Path]:
    """Checkpoints in a run's folder, the oldest first; none if there is no such folder.

    Examples
    --------
    >>> list_checkpoints("no/such/folder")
    []
    """
    folder = Path(folder)
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), key=_number)


def load_checkpoint(
    folder: PathLike,
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    generators: Mapping[str, Generator] | None = None,
    config: Any = None,
    ignore: Collection[str] = (),
    restore_random: bool = True,
) -> Checkpoint:
    """Load a run's newest checkpoint, or a given one, into model, optimizer and generators.

    A run that goes on from it takes the same steps as one that was never stopped: bit for bit on
    the CPU, with the same versions and number of threads.

    Parameters
    ----------
    folder : path
        Folder of the run's checkpoints, or one of the checkpoints.
    model, optimizer : optional
        Restored in place. Those left out are left alone.
    generators : mapping of str to generator, optional
        Restored in place, by the names under which they were saved.
    config : dataclass or mapping, optional
        Settings of the run now. They must equal those of the checkpoint.
    ignore : collection of str
        Fields of the config that may differ (``"n_steps"``, to make a run longer); dots lead into
        nested ones.
    restore_random : bool
        Restore the global random states too. False where only the weights are wanted.

    Returns
    -------
    Checkpoint
        With the caller's state.

    Raises
    ------
    FileNotFoundError
        There is no checkpoint.
    ValueError
        Another config (the message names the fields), a damaged file (it names the file), or no
        optimizer or generator of that name in it. Nothing has been restored then.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_checkpoint(folder, nn.Linear(2, 2), config={"rate": 0.1, "group": 8})
    ...     load_checkpoint(path, config={"rate": 0.2, "group": 8})
    Traceback (most recent call last):
    ...
    ValueError: checkpoint-000001 was saved with another config: rate is 0.1 there and 0.2 here; \
use its settings, or another folder
    """
    path = _find(Path(folder))
    contents = _read(path)
    saved = contents["checkpoint"]
    differing = _differences(saved["config"], _plain_config(config), ignore)
    if config is not None and differing:
        raise ValueError(_other_config(path, differing))
    if model is not None:
        here = _model_config(model)
        common = (saved["model_config"].keys() & here.keys()) - _INCIDENTAL
        there = {name: saved["model_config"][name] for name in common}
        differing = _differences(there, {name: here[name] for name in common}, ())
        if differing:
            raise ValueError(_other_config(path, [f"model.{line}" for line in differing]))
    if optimizer is not None and contents["optimizer"] is None:
        raise ValueError(f"{path.name} has no optimizer; it was saved without one")
    states = contents["random"]["generators"]
    for name, generator in (generators or {}).items():
        if name not in states:
            known = ", ".join(states) or "none"
            raise ValueError(f"{path.name} has no generator {name!r} (it has: {known})")
        if states[name]["kind"] != _kind(generator):
            kinds = f"{states[name]['kind']} there and {_kind(generator)} here"
            raise ValueError(f"generator {name!r} of {path.name} is {kinds}")
    if model is not None:
        _check_weights(model, path / "model")

    if optimizer is not None:  # first, for it checks its own groups
        optimizer.load_state_dict(contents["optimizer"])
    if model is not None:
        load_model(_plain(model), path / "model" / "model.safetensors")
    for name, generator in (generators or {}).items():
        _restore(generator, states[name]["state"])
    if restore_random:
        _restore_global(contents["random"]["global"])
    return Checkpoint(path, saved["state"], saved["config"])


# ------------------------------------------------------------------ files


def _number(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def _find(folder: Path) -> Path:
    if (folder / "checkpoint.json").is_file():
        return folder
    existing = list_checkpoints(folder)
    if not existing:
        raise FileNotFoundError(
            f"{folder} has no checkpoint; give the folder of a run, or one of its checkpoints"
        )
    return existing[-1]


def _read(path: Path) -> dict[str, Any]:
    name = "tensors.safetensors"
    try:
        tensors = load_file(path / name)
        contents = {}
        for part in _PARTS:
            name = f"{part}.json"
            contents[part] = _decode(json.loads((path / name).read_text()), tensors)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ValueError(_damaged(path / name, path, error)) from error
    if contents["checkpoint"]["format"] != _FORMAT:
        raise ValueError(
            f"{path} has format {contents['checkpoint']['format']}, this version reads {_FORMAT}"
        )
    return contents


def _sweep(folder: Path) -> None:
    """Remove what a killed run left."""
    for name in (_UNFINISHED, _REMOVED):
        if (folder / name).exists():
            shutil.rmtree(folder / name)


def _flush(path: Path, deep: bool = True) -> None:
    """Have files and folder entries on the disk before going on."""
    inside = path.iterdir() if deep and path.is_dir() else ()
    for child in inside:
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


@contextmanager
def _no_bar() -> Iterator[None]:
    """Keep transformers' progress bar of writing one small file out of ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _save_model(model: nn.Module, folder: Path) -> None:
    if hasattr(_plain(model), "save_pretrained"):
        with _no_bar():
            _plain(model).save_pretrained(folder, max_shard_size="1TB")
    else:
        folder.mkdir()
        save_model(_plain(model), str(folder / "model.safetensors"))


def _check_weights(model: nn.Module, folder: Path) -> None:
    file = folder / "model.safetensors"
    try:
        saved = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ValueError(_damaged(file, folder.parent, error)) from error
    own = _plain(model).state_dict()
    # Of weights that are tied, the file has one name only.
    held = {weights.data_ptr() for name, weights in own.items() if name in saved}
    for name in sorted(saved.keys() | own.keys()):
        there = tuple(saved[name].shape) if name in saved else "absent"
        here = tuple(own[name].shape) if name in own else "absent"
        if there != here and not (there == "absent" and own[name].data_ptr() in held):
            raise ValueError(f"{file} is of another model: {name} is {there} there and {here} here")


def _damaged(file: Path, checkpoint: Path, error: Exception) -> str:
    return (
        f"{file} is missing or damaged ({error}); remove {checkpoint.name} to use the checkpoint "
        "before it"
    )


# ------------------------------------------------------------------ configs


def _plain_config(config: Any) -> dict[str, Any]:
    if config is None:
        return {}
    plain = asdict(config) if is_dataclass(config) and not isinstance(config, type) else config
    try:
        return dict(json.loads(json.dumps(dict(plain))))
    except TypeError as error:
        raise ValueError(f"config has a value that JSON can't hold: {error}") from error


def _model_config(model: nn.Module) -> dict[str, Any]:
    config = getattr(_plain(model), "config", None)
    return dict(json.loads(config.to_json_string(use_diff=False))) if config is not None else {}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _differences(
    there: Mapping[str, Any], here: Mapping[str, Any], ignore: Collection[str]
) -> list[str]:
    saved, now = _flat(there), _flat(here)
    lines = []
    for name in sorted((saved.keys() | now.keys()) - set(ignore)):
        one, other = (repr(side[name]) if name in side else "absent" for side in (saved, now))
        if one != other:
            lines.append(f"{name} is {one} there and {other} here")
    return lines


def _other_config(path: Path, differing: list[str]) -> str:
    return (
        f"{path.name} was saved with another config: {'; '.join(differing)}; use its settings, or "
        "another folder"
    )


# ------------------------------------------------------------------ values as JSON and tensors


def _encode(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """JSON for a value; its tensors and arrays go into ``tensors`` under their names."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor | np.ndarray):
        unique = name if name not in tensors else f"{name}#{len(tensors)}"
        if isinstance(value, Tensor):
            tensors[unique] = value.detach().cpu().contiguous().clone()
            return {"__tensor__": unique}
        if value.dtype.kind in "biufc":
            tensors[unique] = torch.from_numpy(np.array(value, order="C"))
            return {"__array__": unique}
    if isinstance(value, list | tuple):
        items = [_encode(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"__tuple__": items}
    if isinstance(value, Mapping):
        pairs = [(key, _encode(item, f"{name}/{key}", tensors)) for key, item in value.items()]
        if all(isinstance(key, str) and not key.startswith("__") for key, _ in pairs):
            return dict(pairs)
        return {"__items__": [[_encode(key, f"{name}/key", {}), item] for key, item in pairs]}
    raise ValueError(
        f"{name} is a {type(value).__name__}, which a checkpoint can't hold; give numbers, "
        "strings, lists, tuples, mappings, tensors or arrays"
    )


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "__tensor__" in value:
        return tensors[value["__tensor__"]]
    if "__array__" in value:
        return tensors[value["__array__"]].numpy()
    if "__tuple__" in value:
        return tuple(_decode(item, tensors) for item in value["__tuple__"])
    if "__items__" in value:
        return {_decode(key, tensors): _decode(item, tensors) for key, item in value["__items__"]}
    return {key: _decode(item, tensors) for key, item in value.items()}


# ------------------------------------------------------------------ random states


def _global_states() -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 - other libraries draw from it
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def _restore_global(states: Mapping[str, Any]) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.device_count() == len(states["cuda"]):
        torch.cuda.set_rng_state_all(states["cuda"])


def _kind(generator: Generator) -> str:
    if isinstance(generator, torch.Generator):
        return f"torch/{generator.device.type}"
    if isinstance(generator, np.random.Generator):
        return f"numpy/{type(generator.bit_generator).__name__}"
    return "python"


def _state_of(generator: Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate()


def _restore(generator: Generator, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.setstate(state)
