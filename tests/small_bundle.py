"""A folder with a manifest, and a check of what is said about it."""

from pathlib import Path

import pytest

from rissole.config import RissoleError
from rissole.storage import manifest as bundle


def make_bundle(folder: Path, name: str = "tiny") -> Path:
    (folder / "denoiser").mkdir(parents=True)
    (folder / "database").mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("# A model card\n")
    (folder / "denoiser" / "weights.safetensors").write_bytes(bytes(range(256)) * 8)
    (folder / "database" / "latents.safetensors").write_bytes(b"latents")
    bundle.write_manifest(folder, name, license="cc-by-nc-4.0")
    return folder


def fails(call, words: str) -> None:
    with pytest.raises(RissoleError) as error:
        call()
    text = str(error.value)
    assert words in text
    assert len(text.splitlines()) == 1
