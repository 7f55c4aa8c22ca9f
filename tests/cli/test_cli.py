import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors import SafetensorError
from synthetic import trained_network
from torch.nn.modules.module import register_module_forward_pre_hook

from rissole import cli
from rissole.data.images import load_image, read_recipe
from rissole.models.autoencoder import Codec, tiny_autoencoder
from rissole.storage import manifest as bundle
from rissole.training.checkpoint import read_state
from rissole.training.stage import STAGES

ROOT = Path(cli.__file__).parents[2]


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Run a command line in this process; returns (exit code, stdout, stderr lines)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments) -> tuple[int, str, list[str]]:
        capfd.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err.splitlines()

    return call


def refused(result: tuple[int, str, list[str]], words: str) -> None:
    code, out, err = result
    assert code == 2
    assert out == ""
    assert len(err) == 1, err
    assert err[0].startswith("error: ")
    assert words in err[0]


@pytest.mark.parametrize(
    "command",
    [[], ["sample"], ["benchmark"], ["index"], ["train"], ["evaluate"], ["push"], ["sheet"]],
)
def test_help_is_quick_to_import_and_names_every_command(command, run):
    code, out, err = run(*command, "--help")
    assert code == 0
    assert err == []
    assert "Usage: python -m rissole" in out
    if not command:
        for name in ("sample", "benchmark", "index", "train", "evaluate", "push"):
            assert name in out
        assert run()[1] == out


def test_help_needs_no_heavy_module():
    code = (
        "import sys; from rissole.cli import main; main(['sample', '--help'])\n"
        "heavy = {'torch', 'diffusers', 'gradio', 'faiss', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["smaple"], "No such command"),
        (["sample", "--stepz", "3"], "No such option"),
        (["sample", "--k", "many"], "--k"),
        (["sample", "--seed"], "--seed"),
        (["sample", "--bundle", "no-such-bundle"], "unknown bundle 'no-such-bundle'"),
        (["sample", "--out", "cat.jpg"], "must end in .png"),
        (["sample", "--num-images", "0"], "--num-images must be from 1"),
        (["sample", "--neighbors", "3,x"], "must be numbers such as 3,17,5"),
        (["sample", "--neighbors", "3,-1"], "must be numbers such as 3,17,5"),
        (["sample", "--neighbors", "3", "--item", "4"], "only one of"),
        (["sample", "--query", "missing.png"], "no such file: missing.png"),
        (["benchmark", "--runs", "0"], "--runs must be from 1"),
        (["benchmark", "--threads", "-1"], "--threads must be from 1"),
        (["benchmark", "--bundle", "no-such-bundle", "--json"], "unknown bundle"),
        (["push"], "Missing argument"),
        (["push", "no-such-bundle", "not-a-repository"], "owner/name"),
        (["push", "no-such-bundle", "someone/cats"], "unknown bundle"),
        (["push", "cats-128", "someone/cats", "--space", "--database", "photos"], "owner/name"),
        (["index", "nowhere", "--out", "mine"], "no folder of pictures, no parquet file"),
        (["train", "--stage", "everything"], "--stage must be one of"),
        (["train", "--stage", "features"], "--data is needed"),
        (["train", "--stage", "features", "--data", "nowhere"], "nowhere"),
        (["train", "--stage", "denoiser"], "run --stage latents first"),
        (["train", "--stage", "denoiser", "--schedule", "1,0"], "--schedule must rise"),
        (["train", "--stage", "denoiser", "--minutes", "nan"], "--minutes and --steps"),
        (["train", "--stage", "denoiser", "--config", "no.json"], "no such file or directory no"),
        (["train", "--stage", "gallery", "--seed", "-1"], "seed must be from 0"),
        (["train", "--stage", "features", "--seed", str(2**64 - 1)], "seed must be from 0"),
        (["compare", "nowhere", "--data", "there", "--seed", "-1"], "seed must be from 0"),
        (["compare", "nowhere", "--data", "there", "--seed", str(10**20)], "seed must be from 0"),
        (["evaluate", "here", "--reference", "there", "--seed", "-1"], "seed must be from 0"),
        (["evaluate", "here", "--reference", "there", "--seed", str(10**20)], "seed must be from"),
        (["evaluate", "here", "--reference", "there"], "--features is needed"),
        (["evaluate", "h", "--reference", "t", "--measure", "beauty"], "no measure 'beauty'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(run, arguments, words):
    refused(run(*arguments), words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--k", "0"], "k"),
        (["--k", "17"], "k"),
        (["--steps", "-1"], "num_inference_steps"),
        (["--steps", "0"], "num_inference_steps"),
        (["--steps", "201"], "num_inference_steps"),
        (["--guidance-scale", "nan"], "guidance_scale"),
        (["--guidance-scale", "-1"], "guidance_scale"),
        (["--order", "spiral"], "order"),
        (["--grid", "3"], "grid"),
        (["--seed", "-1"], "seed"),
        (["--seed", str(2**64)], "seed"),
        (["--item", "1000000"], "1000000"),
        (["--item", "-1"], "-1"),
        (["--neighbors", "999999"], "999999"),
        (["--neighbors", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"], "16"),
        (["--device", "warp-drive"], "warp-drive"),
        (["--database", "no-such-folder"], "no-such-folder"),
        (["--text", "a cat"], "no text encoder is loaded: start with --clip"),
        (["--text", "a cat", "--item", "1"], "only one of"),
        (["--clip", "no-such-model", "--text", "a cat"], "no-such-model"),
        (["--encoder", "magic"], "encoder must be one of latent"),
        (["--encoder", "learned"], "no encoder 'learned'"),
        (["--only", "fish"], "no class 'fish'"),
    ],
)
def test_values_out_of_range_are_one_line(run, tiny_bundle, tmp_path, arguments, words):
    refused(run("sample", "--bundle", tiny_bundle, *arguments), words)
    assert list(tmp_path.glob("*.png")) == []


def test_queries_that_are_no_pictures(run, tiny_bundle, tmp_path):
    for name, data in {"notes.png": b"only text", "empty.png": b""}.items():
        (tmp_path / name).write_bytes(data)
        refused(run("sample", "--bundle", tiny_bundle, "--query", name), name)


@pytest.mark.parametrize("part", ["denoiser", "autoencoder", "database"])
def test_damaged_weights_are_named(run, tiny_bundle, tmp_path, part):
    copy = tmp_path / "damaged"
    shutil.copytree(tiny_bundle, copy)
    path = max((copy / part).glob("*.safetensors"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(run("sample", "--bundle", copy, "--seed", "0"), f"{part}/{path.name} is damaged")


def test_process_ends_with_exit_code_2_and_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "rissole", "sample", "--bundle", "no-such-bundle"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


# Painting

QUICK = ["--steps", "2", "--k", "3"]


def test_same_seed_same_bytes_other_seed_other_picture(run, tiny_bundle, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        code, out, err = run(
            "sample", "--bundle", tiny_bundle, "--seed", seed, "--out", f"{name}.png", *QUICK
        )
        assert (code, err) == (0, [])
        assert f"seed {seed}" in out
    first, second, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == second
    assert load_image(first).tobytes() != load_image(other).tobytes()


def test_picture_carries_the_recipe_that_paints_it_again(run, tiny_bundle, tmp_path, pipe):
    options = ["--neighbors", "3,17,5", "--order", "sequential", "--grid", "2"]
    options += ["--guidance-scale", "2.5", "--steps", "2", "--seed", "11", "--out", "cat.png"]
    assert run("sample", "--bundle", tiny_bundle, *options)[0] == 0
    recipe = read_recipe(tmp_path / "cat.png")
    assert sorted(recipe["neighbors"]) == [3, 5, 17]
    assert (recipe["order"], recipe["grid"], recipe["seed"]) == ("sequential", 2, 11)
    assert (recipe["guidance_scale"], recipe["num_inference_steps"]) == (2.5, 2)
    again = pipe(**recipe).images[0]
    assert again.tobytes() == load_image(tmp_path / "cat.png").tobytes()


def test_several_pictures_are_numbered_and_each_is_its_own_seed(run, tiny_bundle, tmp_path):
    args = ["sample", "--bundle", tiny_bundle, *QUICK]
    assert run(*args, "--seed", "5", "--num-images", "3", "--out", "out/cat.png")[0] == 0
    assert run(*args, "--seed", "5", "--num-images", "2", "--out", "cat%03d.png")[0] == 0
    assert run(*args, "--seed", "6", "--out", "single.png")[0] == 0
    several = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert several == ["cat-0.png", "cat-1.png", "cat-2.png"]
    second = (tmp_path / "out" / "cat-1.png").read_bytes()
    assert second == (tmp_path / "cat001.png").read_bytes()
    assert second == (tmp_path / "single.png").read_bytes()


def test_queries_choose_the_neighbors(run, tiny_bundle, tmp_path, pipe):
    pipe.database.image(7).save(tmp_path / "query.png")
    args = ["sample", "--bundle", tiny_bundle, "--seed", "0", *QUICK]
    assert run(*args, "--query", "query.png", "--out", "a.png")[0] == 0
    assert run(*args, "--item", "7", "--out", "b.png")[0] == 0
    by_picture = read_recipe(tmp_path / "a.png")["neighbors"]
    by_item = read_recipe(tmp_path / "b.png")["neighbors"]
    assert 7 in by_picture
    assert 7 not in by_item
    assert len(by_picture) == len(by_item) == 3


def test_unwritable_output_is_one_line(run, tiny_bundle, tmp_path):
    (tmp_path / "file").write_text("no folder")
    refused(run("sample", "--bundle", tiny_bundle, *QUICK, "--out", "file/cat.png"), "file")


def test_interrupt_is_one_line_and_exit_code_130(tiny_bundle, tmp_path):
    command = [sys.executable, "-m", "rissole", "sample", "--bundle", str(tiny_bundle)]
    child = subprocess.Popen(
        [*command, "--steps", "20", "--num-images", "1000", "--out", str(tmp_path / "cat.png")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        text=True,
        # a shell starts background jobs deaf to Ctrl-C, and what they start inherits that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert "cat-0.png" in child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=180)
    assert child.returncode == 130
    assert err.splitlines() == ["interrupted"]
    for path in tmp_path.iterdir():
        load_image(path)  # every file is whole


# Benchmark


def test_benchmark_reports_what_it_measured(run, tiny_bundle, pipe):
    args = ["benchmark", "--bundle", tiny_bundle, "--runs", "2", "--beside", "1", *QUICK]
    code, out, err = run(*args, "--json")
    assert (code, err) == (0, [])
    report = json.loads(out)
    assert report["denoiser_parameters"] == pipe.num_parameters()["denoiser"]
    assert report["autoencoder_parameters"] == pipe.num_parameters()["autoencoder"]
    low, middle, high = (report[f"seconds_per_image{end}"] for end in ("_min", "", "_max"))
    assert 0 < low <= middle <= high
    assert report["first_preview_seconds"] > 0
    assert report["busy_processes"] == 1
    assert report["seconds_per_image_beside"] > 0
    assert report["network_calls"] >= 2
    assert 50 < report["peak_rss_mb"] < 20_000
    assert report["threads"] >= 1
    assert report["device"]
    assert report["dtype"] in ("float32", "bfloat16", "float16")
    assert report["settings"]["num_inference_steps"] == 2
    assert report["settings"]["k"] == 3
    more = json.loads(run(*args[:-4], "--steps", "4", "--k", "3", "--json")[1])
    assert more["network_calls"] == 2 * report["network_calls"]


def test_benchmark_table_has_the_same_figures(run, tiny_bundle):
    code, out, _ = run("benchmark", "--bundle", tiny_bundle, "--runs", "1", *QUICK)
    assert code == 0
    for name in ("denoiser_parameters", "seconds_per_image", "peak_rss_mb", "settings.order"):
        assert any(line.startswith(name) for line in out.splitlines())


# Index, train, evaluate and push


@pytest.fixture
def photos(tmp_path) -> Path:
    """Twenty-four small pictures in a folder."""
    (tmp_path / "photos").mkdir()
    for index in range(24):
        image = Image.effect_noise((64, 64), 60 + index).convert("RGB")
        image.save(tmp_path / "photos" / f"{index:02}.png")
    return tmp_path / "photos"


def test_index_makes_a_database_that_guides_the_painting(run, tiny_bundle, photos, tmp_path):
    code, out, _ = run("index", photos, "--bundle", tiny_bundle, "--out", "mine", "--limit", 20)
    assert code == 0
    assert "20 pictures" in out
    assert bundle.verify(tmp_path / "mine")["name"] == "mine"
    args = ["sample", "--bundle", tiny_bundle, *QUICK, "--seed", "0", "--query", photos / "05.png"]
    assert run(*args, "--database", "mine", "--out", "a.png")[0] == 0
    assert run(*args, "--out", "b.png")[0] == 0
    mine, gallery = (read_recipe(tmp_path / name) for name in ("a.png", "b.png"))
    assert mine["neighbors"][0] == 5  # the picture finds itself
    assert mine["bundle"] == gallery["bundle"]
    assert mine["database"] != gallery["database"]
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    latents = tmp_path / "mine" / "latents.safetensors"
    latents.write_bytes(latents.read_bytes()[:-1])
    refused(run(*args, "--database", "mine"), "mine/latents.safetensors is damaged")


def test_index_refuses_what_it_cannot_read_and_leaves_nothing(run, tiny_bundle, tmp_path):
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "notes.png").write_text("no picture")
    for source, words in (("nowhere", "nowhere"), ("mixed", "notes.png")):
        code, _, err = run("index", source, "--bundle", tiny_bundle, "--out", "mine")
        assert code == 2
        assert words in err[-1]
    refused(run("index", "mixed", "--bundle", tiny_bundle, "--out", "mixed"), "not overwritten")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mixed"]


def test_train_runs_a_stage_and_does_not_overwrite_it(run, photos, tmp_path):
    (tmp_path / "settings.json").write_text('{"batch_size": 4, "perceptual": 0}')
    (tmp_path / "wrong.json").write_text('{"batch_sise": 4}')
    args = ["train", "--stage", "autoencoder", "--data", photos, "--out", "run", "--size", "64"]
    args += ["--steps", "1", "--device", "cpu"]
    code, out, _ = run(*args, "--config", "settings.json")
    assert code == 0
    assert "psnr" in out
    before = read_state(tmp_path / "run" / "state" / "autoencoder").steps
    refused(run(*args), "add --resume")
    gallery = ["train", "--stage", "gallery", *args[3:]]
    refused(run(*gallery), "features.safetensors is missing: run --stage features first")
    code, _, err = run(*args, "--resume", "--config", "wrong.json")
    assert code == 2
    assert "wrong.json: no setting 'batch_sise', there are batch_size" in err[-1]
    assert read_state(tmp_path / "run" / "state" / "autoencoder").steps == before
    assert run(*args, "--resume", "--config", "settings.json")[0] == 0
    assert read_state(tmp_path / "run" / "state" / "autoencoder").steps == before + 1


def test_help_names_the_stages_that_do_without_photos(run):
    told = " ".join(run("train", "--help")[1].split())
    named = told.partition("Without --data: ")[2].partition(".")[0]
    assert named.split(", ") == [stage.name for stage in STAGES if not stage.reads_photos]
    assert "denoiser" in named and "latents" not in named


def test_sizes_that_no_denoiser_paints_are_refused_before_any_work(run, tmp_path):
    args = ["train", "--data", "nowhere", "--out", "run", "--device", "cpu", "--size"]
    for size in ("8", "12"):
        told = f"--size must be a multiple of 8, 16 at least, not {size}"
        refused(run(*args, size, "--stage", "autoencoder"), told)
    right = run(*args, "64", "--stage", "autoencoder", "--space", "pixel")
    refused(right, "nowhere")
    made = tiny_autoencoder(8, 4, (1, 1, 1, 1), (1, 1, 1, 1))  # brought along, 8 pixels a cell
    Codec(made).save(tmp_path / "run" / "autoencoder")
    for stage in ("latents", "decoder"):
        refused(run(*args, "64", "--stage", stage), "--size must be a multiple of 128, not 64")


def test_evaluate_measures_a_folder_or_what_a_bundle_paints(run, photos, tiny_bundle, tmp_path):
    shutil.copytree(photos, tmp_path / "painted", ignore=lambda _, names: sorted(names)[6:])
    args = ["evaluate", "painted", "--reference", "photos", "--held-out", "photos"]
    args += ["--size", "64", "--measure", "seams"]
    code, out, err = run(*args, "--device", "cpu", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert report["n"] == 6
    assert "seams" in report
    assert "copies" not in report
    args[1:2] = [tiny_bundle, "--samples", "5"]
    code, out, err = run(*args, "--device", "cpu", "--json")
    assert code == 0, err
    assert json.loads(out)["n"] == 5
    refused(run("evaluate", "nowhere", *args[4:]), "unknown bundle 'nowhere'")
    missing = ["--reference", "nowhere", "--measure", "seams"]
    refused(run("evaluate", tiny_bundle, *missing), "no data set: nowhere")


@pytest.fixture
def calls():
    """Names of the networks' layers that computed something, in order."""
    found: list[str] = []
    note = register_module_forward_pre_hook(lambda layer, _: found.append(type(layer).__name__))
    yield found
    note.remove()


UNMEASURABLE = [
    (["--held-out", "nowhere"], "no data set: nowhere"),
    (["--held-out", "few"], "too few to measure: 3 held-out photo(s)"),
    (["--reference", "few"], "too few to measure: 2 training photo(s)"),
    ([], "too few to measure: 1 held-out photo(s)"),  # of 24
    (["--held-out", "photos", "--size", "16"], "a 4x4 grid on 16 pixels"),
    (["--held-out", "photos", "--grid", "16"], "a 16x16 grid on 64 pixels"),
    (["--held-out", "photos", "--measure", "classes"], "the reference has no classes"),
    (["--held-out", "photos", "--measure", "classes", "--reference", "kinds"],
     "the reference has no photo of class 'wild'"),
    (["--held-out", "photos", "--features", "nowhere"], "no feature network 'nowhere'"),
]  # fmt: skip


def test_what_cannot_be_measured_is_told_before_a_bundle_paints(
    run, photos, tiny_bundle, databases, tmp_path, calls
):
    trained_network(tmp_path / "features.safetensors")
    for folder, count in (("few", 3), ("kinds/calm", 9), ("kinds/tame", 9)):
        left_out = sorted(path.name for path in photos.iterdir())[count:]
        shutil.copytree(photos, tmp_path / folder, ignore=lambda *_, names=left_out: names)
    assert run("join", tiny_bundle, databases / "moods", "--out", "moods")[0] == 0
    usual = ["evaluate", "moods", "--reference", "photos", "--size", "64", "--measure", "seams"]
    usual += ["--samples", "5", "--features", "features.safetensors", "--device", "cpu"]
    calls.clear()
    for arguments, words in UNMEASURABLE:
        refused(run(*usual, *arguments), words)
    assert calls == []
    assert run(*usual, "--held-out", "photos")[0] == 0
    assert calls


def test_a_bundle_of_one_block_has_no_influence_to_measure(run, tiny_bundle, photos, calls):
    shutil.copytree(tiny_bundle, "whole")
    config = json.loads(Path("whole/config.json").read_text())
    config["defaults"]["grid"] = 1
    Path("whole/config.json").write_text(json.dumps(config))
    bundle.write_manifest(Path("whole"), "whole")
    args = ["--reference", "photos", "--held-out", "photos", "--size", "64", "--samples", "5"]
    calls.clear()
    told = run("evaluate", "whole", *args, "--measure", "seams,influence")
    refused(told, "influence is measured of single blocks")
    assert calls == []


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError("Error while serializing: I/O error: No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
    ],
)
def test_a_full_disk_is_one_line(error):
    assert cli.explain(error) == str(error)
    assert cli.explain(RuntimeError("shapes do not match")) is None  # a mistake of ours


def test_push_dry_run_verifies_and_lists(run, tiny_bundle, tmp_path):
    code, out, err = run("push", tiny_bundle, "someone/tiny", "--dry-run")
    assert (code, err) == (0, [])
    assert "config.json" in out
    assert "nothing uploaded" in out
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    (copy / "config.json").write_text("{}")
    code, out, err = run("push", copy, "someone/tiny", "--dry-run")
    assert code == 2
    assert "copy/config.json is damaged" in err[0]


def test_push_without_network_is_one_line(tiny_bundle):
    env = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "none"}
    done = subprocess.run(
        [sys.executable, "-m", "rissole", "push", str(tiny_bundle), "someone/tiny"],
        cwd=ROOT,
        env={**env, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be reached" in done.stderr
