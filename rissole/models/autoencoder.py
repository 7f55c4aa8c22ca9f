"""The first stage: pixels to latents and back. It alone knows the latent scale.

Any `diffusers` autoencoder serves: `AutoencoderTiny` (ours), `VQModel` (as published) and
`AutoencoderKL` differ only in what `encode` returns. `PixelSpace` stands in for one where pictures
are small enough to be painted as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, VQModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.utils.constants import SAFETENSORS_WEIGHTS_NAME
from torch import Tensor, nn

from rissole.config import RissoleError
from rissole.models.library_configs import read_library_config
from rissole.models.saving import one_line, read_tensors, tensors_of
from rissole.storage.files import save_tensors, write_atomic

CONFIG = "config.json"
SCALES = (1e-4, 1e4)  # what latents may be multiplied by; beyond it half precision loses them


def tiny_autoencoder(
    channels: int = 64,
    latent_channels: int = 4,
    encoder_blocks: tuple[int, ...] = (1, 3, 7),
    decoder_blocks: tuple[int, ...] = (10, 4, 0),
) -> AutoencoderTiny:
    """An untrained autoencoder of TAESD's shape; three stages make it factor 4 (2.9 M weights).

    The decoder has no blocks at full size: there one costs as much as sixteen at a quarter of it,
    and two plain convolutions suffice for what is left to do.
    """
    return AutoencoderTiny(
        encoder_block_out_channels=(channels,) * len(encoder_blocks),
        decoder_block_out_channels=(channels,) * len(decoder_blocks),
        num_encoder_blocks=encoder_blocks,
        num_decoder_blocks=decoder_blocks,
        latent_channels=latent_channels,
    )


class PixelSpace(nn.Module, ConfigMixin):
    """No autoencoder: the latent is the picture (3 channels, factor 1), scaled by the `Codec`.

    It has no weights and is saved as a config alone.
    """

    config_name: Any = "config.json"

    @register_to_config
    def __init__(self, scaling_factor: float = 2.0, shift_factor: float = 0.0):
        super().__init__()
        # nothing to learn, but a device and a precision, as every autoencoder has
        self.nothing = nn.Parameter(torch.empty(0), requires_grad=False)

    @classmethod
    def fit(cls, photos: Tensor) -> PixelSpace:
        """Measures the scale on uint8 photos (N, 3, S, S)."""
        values = photos[:4096].float().div(127.5).sub(1)
        return cls(scaling_factor=1 / values.std().item(), shift_factor=values.mean().item())

    def encode(self, images: Tensor) -> AutoencoderTinyOutput:
        """The images themselves."""
        return AutoencoderTinyOutput(latents=images)

    def decode(self, latents: Tensor) -> DecoderOutput:
        """The latents themselves."""
        return DecoderOutput(sample=latents)


# what a bundle's autoencoder may be, by class name; another one that encodes and decodes as these
# do, and has their `config`, is added with `AUTOENCODERS["ItsName"] = ItsName`
AUTOENCODERS: dict[str, type[Any]] = {
    c.__name__: c for c in (AutoencoderTiny, AutoencoderKL, VQModel, PixelSpace)
}


def check_scale(config: Mapping[str, Any]) -> tuple[float, float]:
    """Scale and shift of a config; some classes have no shift, and some store None.

    Raises:
        RissoleError: when latents of unit variance cannot come of them, or no RGB picture.
    """
    scale, shift = config.get("scaling_factor"), config.get("shift_factor")
    scale, shift = 1.0 if scale is None else float(scale), 0.0 if shift is None else float(shift)
    if not (SCALES[0] <= scale <= SCALES[1] and abs(shift) <= SCALES[1]):
        raise RissoleError(f"scaling_factor {scale:g} or shift_factor {shift:g} is out of range")
    if any(config.get(name, 3) != 3 for name in ("in_channels", "out_channels")):
        raise RissoleError("pictures have 3 channels, in and out")
    return scale, shift


class Codec(nn.Module):
    """Encodes pictures to unit-variance latents and decodes them.

    Args:
        model: a `diffusers` autoencoder. Its config's `scaling_factor` and `shift_factor` turn its
            raw latents to zero mean and unit variance.

    Raises:
        RissoleError: when its scale is out of range.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model: Any = model.to(memory_format=torch.channels_last)  # 2.5 times as fast on a CPU
        config: Any = model.config
        self.scale, self.shift = check_scale(config)

    @classmethod
    def load(cls, folder: str | Path) -> Codec:
        """Loads any supported autoencoder class that `save_pretrained` wrote.

        Raises:
            RissoleError: when the folder holds no autoencoder of a known class.
        """
        folder = Path(folder)
        with one_line("autoencoder", folder / CONFIG):
            kind, settings = read_library_config(folder / CONFIG, AUTOENCODERS)
            check_scale(settings)
            if issubclass(kind, PixelSpace):  # nothing is learned, no weights are stored
                return cls(kind.from_config(settings).eval())
            build = partial(kind.from_config, settings)
            weights = read_tensors(folder / SAFETENSORS_WEIGHTS_NAME, tensors_of(build))
            model: Any = build()
            model.load_state_dict(weights)
        return cls(model.eval().requires_grad_(False))

    def save(self, folder: str | Path) -> None:
        """Writes half-precision safetensors and the config; of `PixelSpace` the config alone."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        copy = deepcopy(self.model)
        if not isinstance(copy, PixelSpace):
            for tensor in (*copy.parameters(), *copy.buffers()):
                tensor.data = tensor.data.half()
            weights = {name: tensor.contiguous() for name, tensor in copy.state_dict().items()}
            save_tensors(weights, folder / SAFETENSORS_WEIGHTS_NAME, {"format": "pt"})
        config = json.loads(copy.to_json_string())
        config.pop("_name_or_path", None)  # a path of this machine
        if config["_class_name"] == "AutoencoderTiny":
            config.pop("block_out_channels", None)  # derived; its own loader warns about it
        write_atomic(folder / CONFIG, f"{json.dumps(config, indent=2)}\n".encode())

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        if isinstance(self.model, PixelSpace):
            return 3
        return self.model.config.latent_channels

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent cell, along one side."""
        if isinstance(self.model, PixelSpace):
            return 1
        config = self.model.config
        stages = config.get("encoder_block_out_channels") or config.get("block_out_channels")
        return 2 ** (len(stages) - 1)

    def encode(self, images: Tensor) -> Tensor:
        """Latents (B, C, H/f, W/f) of images (B, 3, H, W) in [-1, 1]."""
        out = self.model.encode(images.to(next(self.model.parameters()).dtype))
        latents = out.latent_dist.mode() if hasattr(out, "latent_dist") else out.latents
        return ((latents.float() - self.shift) * self.scale).contiguous()

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] of latents (B, C, H/f, W/f)."""
        raw = latents / self.scale + self.shift
        images = self.model.decode(raw.to(next(self.model.parameters()).dtype)).sample
        return images.float().clamp(-1, 1).contiguous()
