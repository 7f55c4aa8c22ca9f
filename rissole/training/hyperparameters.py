"""What each stage of this package can be told; a JSON file may set any of it.

Stages and what they run both read it from here. It loads quickly: the command line lists stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from rissole.config import MAX_GUIDANCE_SCALE, MAX_STEPS, Recipe, RissoleError

POOL = 64  # neighbors kept per picture; training draws its few from them
Positive = Annotated[int, Field(ge=1, le=1_000_000)]  # a whole number from 1; more is a slip
Batch = Annotated[int, Field(ge=1, le=65_536)]  # pictures per step, whose end a signal waits for
Neighbors = Annotated[int, Field(ge=1, le=POOL)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]  # a picture's
Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # a number from 0
Part = Annotated[float, Field(ge=0, le=1)]  # of a whole


def check_schedule(schedule: tuple[float, float]) -> None:
    """Refuses what is no part of a learning-rate schedule: its start and end within 0 to 1."""
    start, end = schedule
    if not start < end <= 1:
        raise RissoleError(f"--schedule must rise within 0 to 1, not {start:g},{end:g}")


@dataclass(frozen=True)
class FeatureTraining:
    """Settings of a feature network.

    Attributes:
        batch_size: photos per step, each seen in two views; half of them once more, damaged.
        arch: resnet18, resnet34 or resnet50.
        resolution: to which the network scales all images, that of the photos by default. Twice
            that is better for photos of 32 pixels, of which the last stage would see one cell.
    """

    batch_size: Batch = 512
    arch: str = "resnet18"
    resolution: Annotated[int, Field(ge=1, le=1024)] | None = None


@dataclass(frozen=True)
class CodecTraining:
    """What training an autoencoder, or its decoder alone, can be told.

    Attributes:
        batch_size: photos per step and process.
        peak_rate: highest learning rate of AdamW.
        chroma: weight of color differences against those of brightness.
        latent_noise: largest standard deviation of noise on the latents the decoder sees, drawn
            anew for every picture; what paints latents is never exact.
        recolored: share of photos with other colors, so that pictures of any kind survive.
        perceptual: strength of feature differences against that of pixel differences; 0 does
            without, and needs no network. A decoder that is not sharpened yet shows a faint pattern
            of 4-pixel cells.
    """

    batch_size: Batch = 32
    peak_rate: Share = 6e-4
    chroma: Share = 1.5
    latent_noise: Share = 0.1
    recolored: Part = 0.25
    perceptual: Share = 0.5


@dataclass(frozen=True)
class DecoderTraining(CodecTraining):
    """Settings of the stage, besides those of every autoencoder.

    Attributes:
        discriminator: strength of the discriminator against that of all differences.
        detail: strength of differences in how strong fine detail is, against those of pixels and
            features.
    """

    peak_rate: Share = 2e-4
    perceptual: Share = 1.0
    discriminator: Share = 1.5
    detail: Share = 1.0


@dataclass(frozen=True)
class EncoderTraining:
    """Settings of the stage.

    Attributes:
        batch_size: photos per step, each seen in two views.
        peak_rate: highest learning rate of AdamW.
        width: of the projector that VICReg's loss is computed behind; it is not shipped.
    """

    batch_size: Batch = 256
    peak_rate: Share = 1e-3
    width: Annotated[int, Field(ge=1, le=16_384)] = 1024


@dataclass(frozen=True)
class DenoiserTraining:
    """Settings of training.

    Attributes:
        batch_size: pictures per step.
        peak_rate: highest learning rate of AdamW.
        grids: share of steps on grids of 4x4, 2x2 and 1x1 blocks.
        situations: share of pictures painted in parallel, sequentially, as repaints, mixed and
            independently.
        windows: blocks evaluated per picture on the 4x4 grid; the others' loss is left out.
        neighbors: most neighbors shown in training.
        drop: share of pictures without neighbors, which makes guidance possible.
        all_shown: share of pictures that see all their neighbors; the others see one or more.
        blinkered: share of pictures whose blocks see their halo but not the canvas, which makes
            guidance by a narrow view possible.
        own: share of pictures in which some blocks have neighbors of their own (4x4 grid, where
            the stage `latents` made `own_blocks`).
        own_neighbors: such neighbors per picture.
        told: share of pictures in which blocks are told how near their neighbors are; above 0 the
            network can be asked to follow them.
        plain: share of pictures that are not changed, where the stage `latents` made several
            `ways`; the others are in any of them, the first, as they are, among them. The network
            is told how they were changed.
        weight_decay: of AdamW, on the weights of layers; norms and biases have none.
        averages: decays, per step, of moving averages of the weights; the first is what the stage
            writes.
        snapshots: how often in a session all averages are kept in the folder `snapshots`, for one
            to be chosen afterwards.
    """

    batch_size: Batch = 128
    peak_rate: Share = 1e-3
    grids: tuple[Share, Share, Share] = (0.8, 0.05, 0.15)
    situations: tuple[Share, Share, Share, Share, Share] = (0.76, 0.1, 0.06, 0.02, 0.06)
    windows: Positive = 4
    neighbors: Neighbors = 3
    drop: Part = 0.1
    all_shown: Part = 0.0
    blinkered: Part = 0.0
    own: Part = 0.0
    own_neighbors: Neighbors = 2
    told: Part = 0.0
    plain: Part = 0.3
    weight_decay: Share = 0.01
    averages: tuple[Part, ...] = (0.9995,)
    snapshots: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if not self.averages:
            raise RissoleError("averages must hold a number at least")
        for name in ("grids", "situations"):
            if not any(getattr(self, name)):
                raise RissoleError(f"{name} must hold numbers above 0")


@dataclass(frozen=True)
class FlowMapTraining:
    """What both trainings of a flow map can be told.

    Attributes:
        batch_size: pictures per step and process.
        peak_rate: highest learning rate of AdamW.
        decay: per step, of the average of the weights that is kept.
        neighbors: most neighbors shown; half of the pictures see all.
        drop: share of pictures without neighbors.
        start_share: share of pictures at the very start of their segment.
        guidance: range of the guidance scale.
        calls: schedules to learn, by their number of calls.
        early, late: how often segments of each schedule are drawn, before and after `switch`.
        switch: share of the time.
        kinds: share of steps with all blocks in parallel on 4x4, on 4x4 in the situations
            `mixed`, on 2x2 and on 1x1 blocks.
        mixed: shares of `rissole.training.situations.SITUATIONS`.
        own, foreign: share of pictures with blocks that have neighbors of their own, and of those
            the share whose neighbors are any pictures, as a visitor may choose.
        told: share of pictures in which blocks are told how near their neighbors are.
        snapshots: how often in a session the network is kept in the folder `snapshots`, for one to
            be chosen afterwards.
    """

    batch_size: Batch = 64
    peak_rate: Share = 3e-4
    decay: Part = 0.999
    neighbors: Neighbors = 8
    drop: Part = 0.03
    start_share: Part = 0.3
    guidance: tuple[Share, Share] = (1.0, 2.5)
    calls: tuple[Steps, ...] = (1, 2, 4, 8, 20)
    early: tuple[Share, ...] = (0.05, 0.2, 0.5, 0.15, 0.1)
    late: tuple[Share, ...] = (0.2, 0.42, 0.22, 0.08, 0.08)
    switch: Part = 0.35
    kinds: tuple[Share, Share, Share, Share] = (0.7, 0.18, 0.06, 0.06)
    mixed: tuple[Share, Share, Share, Share, Share] = (0.0, 0.5, 0.3, 0.0, 0.2)
    own: Part = 0.3
    foreign: Part = 0.5
    told: Part = 0.6
    snapshots: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if not len(self.calls) == len(self.early) == len(self.late) > 0:
            raise RissoleError("calls, early and late must hold as many numbers, one at least")
        for name in ("kinds", "mixed", "early", "late"):
            if not any(getattr(self, name)):
                raise RissoleError(f"{name} must hold numbers above 0")


@dataclass(frozen=True)
class FewStepsTraining(FlowMapTraining):
    """Settings of the stage, besides those of every training of a flow map.

    Attributes:
        gap: length of the teacher's step, at first and from `gap_until` of the time on.
        gap_until: share of the time.
        negative: what guidance leads away from, see `rissole.training.teaching.Teacher`.
    """

    gap: tuple[Share, Share] = (0.16, 0.05)
    gap_until: Part = 0.45
    negative: Literal["blind", "unviewed", "both"] = "blind"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (min(self.gap) > 0 and self.gap_until > 0):
            raise RissoleError("gap and gap_until must be above 0")


@dataclass(frozen=True)
class PolishTraining(FlowMapTraining):
    """Settings of the stage, besides those of every training of a flow map.

    Attributes:
        discriminator: strength of the discriminator against what holds the network where it was.
        judged: pictures per step that the discriminator sees, at most the batch; whole ones, even
            where `mixed` draws others.
        judged_calls: schedules whose last call paints them.
        judged_shares: how often each is drawn.
        recolored: share of pictures that it sees with other colors, photos among them, lest it
            learns a few photos by heart.
        enlarged: share of pictures of which it sees a quarter, twice as large.
        whole: by how many of its coarsest maps it judges pictures as a whole, besides patches of
            them: for photos whose subject has its place, as faces have.
        defects: weight of what the stage `defects` learned of clear defects, such as 0.15; 0 does
            without.
        kept: with it, weight of painting otherwise the same pictures as before.
        detail: weight of fine detail that is as strong as in photos.
    """

    peak_rate: Share = 1e-4
    early: tuple[Share, ...] = (0.2, 0.4, 0.2, 0.1, 0.1)
    late: tuple[Share, ...] = (0.2, 0.4, 0.2, 0.1, 0.1)
    mixed: tuple[Share, Share, Share, Share, Share] = (0.0, 0.5, 0.5, 0.0, 0.0)
    discriminator: Share = 1.0
    judged: Positive = 32
    judged_calls: tuple[Steps, ...] = (1, 2, 4)
    judged_shares: tuple[Share, ...] = (0.2, 0.5, 0.3)
    recolored: Part = 0.2
    enlarged: Part = 0.0
    whole: Annotated[int, Field(ge=0, le=3)] = 0
    defects: Share = 0.0
    kept: Share = 1.0
    detail: Share = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (len(self.judged_calls) == len(self.judged_shares) and any(self.judged_shares)):
            raise RissoleError("judged_calls and judged_shares must hold as many numbers")


@dataclass(frozen=True)
class SamplesSettings:
    """Settings of the stage.

    Attributes:
        count: pictures to paint, besides `photos` that are reconstructed.
        per_sheet: pictures on a sheet.
        num_inference_steps, guidance_scale: as everywhere.
        paint_with: the stage whose network paints.
    """

    count: Positive = 1500
    photos: Annotated[int, Field(ge=0, le=1_000_000)] = 36
    per_sheet: Positive = 24
    num_inference_steps: Steps = 2
    guidance_scale: Annotated[float, Field(ge=0, le=MAX_GUIDANCE_SCALE)] = 1.6
    paint_with: Literal["denoiser", "few-steps", "polish"] = "few-steps"


@dataclass(frozen=True)
class DefectSettings:
    """Settings of the stage.

    Attributes:
        about: the kind of defects, such as eyes, that `grades-eyes.csv` tells of; `grades.csv` by
            default. What is learned of each kind has a file of its own, and all are avoided.
        region: the part of the pictures that is looked at: top, left, bottom and right, as shares
            of the side. Where a defect shows in one place, such as the eyes of a face that is
            always there, that place alone says more.
        photos: how many count as pictures without a defect, as the autoencoder reconstructs them.
        more: other folders of graded pictures, of earlier networks.
    """

    about: Annotated[str, Field(pattern=r"^[a-z0-9_]{0,40}$")] = ""
    region: tuple[Part, Part, Part, Part] = (0.0, 0.0, 1.0, 1.0)
    photos: Positive = 1500
    more: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        top, left, bottom, right = self.region
        if min(bottom - top, right - left) < 1 / 16:
            raise RissoleError(
                "region must be top, left, bottom and right, as shares of the side, "
                "and a sixteenth of it wide and high at least"
            )


@dataclass(frozen=True)
class GallerySettings:
    """Settings of the stage.

    Attributes:
        count: pictures to keep, of `candidates` painted.
        order, grid, num_inference_steps, guidance_scale: as everywhere.
        near_share: share of held-out photos that lie nearer to a training photo than a picture may.
        label: what the pictures are, for people.
        paint_with: the stage whose network paints, and goes into the bundle.
    """

    count: Positive = 1024
    candidates: Positive = 4096
    order: str = "parallel"
    grid: Positive = 4
    num_inference_steps: Positive = 40
    guidance_scale: Share = 1.0
    near_share: Part = 0.01
    label: Annotated[str, Field(max_length=10_000)] = "synthesized pictures"
    paint_with: Literal["denoiser", "few-steps", "polish"] = "denoiser"

    def __post_init__(self) -> None:
        if self.candidates < self.count:
            raise RissoleError(
                f"{self.count} pictures cannot be chosen from {self.candidates} candidates"
            )
        Recipe.validated(
            bundle=None, database=None, neighbors=(0,), order=self.order, grid=self.grid,
            num_inference_steps=self.num_inference_steps, guidance_scale=self.guidance_scale,
        )  # fmt: skip
