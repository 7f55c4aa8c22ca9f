"""A bundle learns which photos it was trained on: its page tells how near a picture is to them."""

from __future__ import annotations

from pathlib import Path

from rissole.data.photos import load_photos, split
from rissole.loading import device_of, read_config, read_parts
from rissole.retrieval.training_photos import FILE, TrainingPhotos
from rissole.storage.resolve import resolve
from rissole.storage.staging import amended
from rissole.training.neighborhoods import encode_photos


def note_training_photos(
    bundle: str | Path, photos: str | Path, device: str | None = None
) -> TrainingPhotos:
    """Measures the photos that a bundle was trained on, and stores a few numbers of each in it.

    Args:
        bundle: a folder, or the name of a bundled one.
        photos: those that `train` was given: the same ones are held out here.
        device: where they are encoded; the fastest one if left out.

    Raises:
        RissoleError: when photos or bundle cannot be read, or the bundle not be written.
    """
    folder = resolve(bundle)
    codec = read_parts(folder).codec
    some = split(load_photos(photos, read_config(folder)["image_size"]))
    where = str(device_of(device))
    # pictures are compared both ways, so that the photos' mirror images are not needed
    latents, held_out = (encode_photos(codec, part, where, mirrored=False) for part in some)
    found = TrainingPhotos.fit(latents, held_out)
    with amended(folder, FILE) as stage:
        found.save(stage)
    return found
