"""Pictures on numbered sheets for people to grade, and the grades that come back.

Reconstructions of photos lie among them, and nobody can tell which: what a grader finds wrong with
those is how strict a grader is.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from tqdm import tqdm

from rissole.config import RissoleError, quoted
from rissole.loading import fast_dtype
from rissole.models.autoencoder import Codec
from rissole.models.denoiser import Denoiser
from rissole.storage.files import save_tensors
from rissole.storage.staging import staged
from rissole.training.bulk import Painting, decode_bytes, paint_many, training_neighbors
from rissole.training.hyperparameters import SamplesSettings
from rissole.training.neighborhoods import digest, read_latents

PICTURES, GRADES = "pictures.safetensors", "grades"
CLEAR = 1.5  # mean grade from which a picture has a clear defect: 0 none, 1 a blemish, 2 clear
NOISE = 100_000  # first seed: far from those that pictures are counted with elsewhere


class Graded(NamedTuple):
    """Pictures that somebody graded.

    Attributes:
        images: uint8 (N, 3, S, S).
        defects: bool (N,), whether a defect is clear.
        photos: bool (N,), which are reconstructions of photos.
    """

    images: Tensor
    defects: Tensor
    photos: Tensor


def paint_samples(run: Path, out: Path, settings: SamplesSettings, device: str, seed: int) -> int:
    """Paints pictures as `gallery` does, and writes them with their sheets; returns how many."""
    data = read_latents(run)
    codec = Codec.load(run / "autoencoder").to(device)
    model = Denoiser.load(run / settings.paint_with)
    # another network's pictures are others: grades of both may be learned from together
    seed += int(digest(model.state_dict())[:6], 16)
    model = model.to(device, fast_dtype(torch.device(device)))
    draw = torch.Generator().manual_seed(seed)
    queries = torch.randint(len(data["latents"]), (settings.count,), generator=draw)
    neighbors = training_neighbors(data, queries, k=8, seed=seed, reach=24)
    how = Painting(
        num_inference_steps=settings.num_inference_steps, guidance_scale=settings.guidance_scale
    )
    painted = decode_bytes(codec, paint_many(model, neighbors, how, NOISE + seed))
    photos = decode_bytes(codec, data["latents"][shuffled(data)[: settings.photos]].float())
    mixed = torch.randperm(len(painted) + len(photos), generator=draw)
    images, which = torch.cat([painted, photos])[mixed], (mixed >= len(painted))
    with staged(out) as stage:
        firsts = range(0, len(images), settings.per_sheet)
        for number, first in enumerate(tqdm(firsts, "sheets", leave=False, disable=None)):
            part = images[first : first + settings.per_sheet]
            numbered(part, first).save(stage / f"sheet-{number:03}.png")
        save_tensors({"images": images, "photos": which}, stage / PICTURES)
    return len(images)


def shuffled(data: dict[str, Tensor]) -> Tensor:
    """Numbers (N,) of the training photos in an order that is always the same.

    Each comes once, as it is or as its mirror image: the other would be the same picture again.
    """
    both = len(data["latents"])
    order = torch.randperm(both, generator=torch.Generator().manual_seed(0))
    first = torch.full((both // 2,), both)
    first = first.scatter_reduce(0, order % (both // 2), torch.arange(both), "amin")
    return order[first.sort().values]


def reconstructions(run: Path, count: int, device: str) -> Tensor:
    """Training photos as a run's autoencoder gives them back, uint8 (count, 3, S, S).

    None of those that lie among the samples, unless all are wanted.
    """
    data, codec = read_latents(run), Codec.load(run / "autoencoder").to(device)
    return decode_bytes(codec, data["latents"][shuffled(data).flip(0)[:count]].float())


def numbered(images: Tensor, first: int, size: int = 224) -> Image.Image:
    """A sheet of uint8 pictures (N, 3, S, S), enlarged, each below its number."""
    columns, step, line = math.ceil(math.sqrt(1.5 * len(images))), size + 6, 18
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * step, rows * (step + line)), "white")
    draw = ImageDraw.Draw(sheet)
    for n, image in enumerate(images):
        x, y = n % columns * step, n // columns * (step + line)
        draw.text((x + 4, y + 3), str(first + n), fill="black")
        large = to_pil_image(image).resize((size, size), Image.Resampling.BICUBIC)
        sheet.paste(large, (x + 3, y + line))
    return sheet


def grades_file(folder: Path, about: str = "") -> Path:
    """Where grades are written, of one kind of defects."""
    return folder / f"{'-'.join(filter(None, (GRADES, about)))}.csv"


def read_samples(folder: Path, about: str = "") -> Graded:
    """The pictures of a folder that have a grade; of several grades the mean counts.

    Args:
        folder: of the stage `samples`.
        about: the kind of defects that the grades are of.

    Raises:
        RissoleError: where there are no pictures or no grades, and for what is no grade.
    """
    try:
        found = load_file(folder / PICTURES)
        images, photos = found["images"], found["photos"]
    except (OSError, SafetensorError, KeyError) as error:
        raise RissoleError(f"{folder} holds no pictures to grade: run --stage samples") from error
    given = read_grades(grades_file(folder, about), len(images))
    numbers = torch.tensor(sorted(given))
    means = torch.tensor([sum(given[n]) / len(given[n]) for n in numbers.tolist()])
    return Graded(images[numbers], means >= CLEAR, photos[numbers])


def read_grades(path: Path, count: int) -> dict[int, list[float]]:
    """The grades of each picture that has any, of lines `number,grade`.

    Raises:
        RissoleError: names the first line that is none.
    """
    if not path.is_file():
        raise RissoleError(f"{path} is missing: lines of a picture's number and its grade, 0 to 2")
    given: dict[int, list[float]] = {}
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RissoleError(f"{path} is no text of lines `number,grade`") from error
    for line, row in enumerate(rows, 1):
        if not row or (line == 1 and not _is_number(row[0])):  # a header
            continue
        try:
            number, grade = int(row[0]), float(row[1])
            if not (0 <= number < count and 0 <= grade <= 2):
                raise ValueError
        except (ValueError, IndexError):
            what = f"a picture's number below {count} and a grade from 0 to 2"
            told = quoted(",".join(row))
            raise RissoleError(f"{path.name}, line {line}: {told} is not {what}") from None
        given.setdefault(number, []).append(grade)
    if not given:
        raise RissoleError(f"{path} holds no grades")
    return given


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
