"""Settings of a stage from a JSON file: only names it knows, and values of their kind."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rissole.config import RissoleError
from rissole.experiments.baselines import BASELINES, BaselineConfig
from rissole.models.denoiser import DenoiserConfig
from rissole.training.autoencoder_stage import AutoencoderTraining
from rissole.training.denoiser_stage import DenoiserTraining
from rissole.training.encoder_stage import train_encoder
from rissole.training.gallery_stage import paint_gallery
from rissole.training.latents_stage import make_latents
from rissole.training.representation import train_features

# what options give, or other stages
ELSEWHERE = (
    "photos", "run", "out", "minutes", "steps", "seed", "device", "on_step", "autoencoder",
    "labels", "classes", "encoder", "budget", "kind", "latent_channels", "latent_size",
)  # fmt: skip
STAGES: dict[str, Callable] = {
    "autoencoder": AutoencoderTraining,
    "decoder": AutoencoderTraining,
    "encoder": train_encoder,
    "latents": make_latents,
    "denoiser": DenoiserTraining,
    "gallery": paint_gallery,
}

KINDS = {bool: (bool,), float: (int, float), str: (str,), dict: (dict,)}
MAY_BE_0 = ("halo", "canvas")


def read_settings(path: Path, stage: str, preset: str = "rissole") -> dict[str, Any]:
    """The settings in a JSON file.

    Args:
        path: holds one object.
        stage: what they are for; the three feature networks have the same ones.
        preset: of the stage denoiser, whose setting `model` holds settings of the network.

    Raises:
        RissoleError: for what is no setting of this stage, or no value for it.
    """
    try:
        raw = json.loads(path.read_bytes())
    except ValueError as error:
        raise RissoleError(f"{path.name} is not JSON") from error
    known = _defaults(STAGES.get(stage, train_features))
    if stage == "denoiser":
        network = _defaults(BaselineConfig if preset in BASELINES else DenoiserConfig)
        known["model"] = {}
    elif stage == "gallery":
        known["label"] = ""
    settings = _checked(raw, known, path.name)
    if "model" in settings:
        settings["model"] = _checked(settings["model"], network, f"{path.name}: model")
    return settings


def _defaults(function: Callable) -> dict[str, Any]:
    """Settings of a function or dataclass, and what they are when nobody names them."""
    found = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in found if p.name not in ELSEWHERE}


def _checked(raw: Any, known: dict[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise RissoleError(f"{where} must hold one JSON object of settings")
    for name in raw:
        if name not in known:
            raise RissoleError(f"{where}: no setting {name!r}, there are {', '.join(known)}")
    return {
        name: _value(value, known[name], f"{where}: {name}", int(name not in MAY_BE_0))
        for name, value in raw.items()
    }


def _value(value: Any, default: Any, where: str, least: int) -> Any:
    """A value of the kind of the default, lists as tuples; whole numbers from `least` on."""
    if isinstance(default, tuple) or (default is None and isinstance(value, list)):
        return _values(value, default or (1,), where)
    if type(value) not in KINDS.get(type(default), (int,)):
        raise RissoleError(f"{where} must be a value such as {default or 1!r}, not {value!r}")
    if isinstance(default, int | None) and value < least or isinstance(value, float) and value < 0:
        raise RissoleError(f"{where} is too small: {value}")
    return value


def _values(value: Any, default: tuple, where: str) -> tuple:
    if not isinstance(value, list) or (len(default) > 1 and len(value) != len(default)):
        raise RissoleError(f"{where} must be a list such as {list(default)}, not {value!r}")
    found = tuple(_value(one, default[0], where, 1) for one in value)
    if not any(found):
        raise RissoleError(f"{where} must hold numbers above 0, not {value!r}")
    return found
