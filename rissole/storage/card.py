"""Model cards: what the Hub shows of a bundle, a database or the Space."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from safetensors import safe_open

from rissole.storage.database_facts import DATABASE_FILE, DatabaseFacts
from rissole.storage.files import write_atomic

BUNDLE_FACTS = {
    "license": "other",
    "library_name": "rissole",
    "pipeline_tag": "unconditional-image-generation",
    "tags": ["diffusion", "retrieval-augmented", "block-wise"],
}
DATABASE_FACTS = {"license": "other", "tags": ["rissole", "retrieval-database"]}
PARTS = ("autoencoder", "denoiser", "embedding", "encoder")


def complete_card(folder: Path, manifest: dict[str, Any], repo_id: str) -> None:
    """Adds what the README.md of a bundle or database lacks: front matter, use, contents.

    What is there stays as it is.

    Args:
        folder: the bundle or database.
        manifest: its manifest.
        repo_id: where it is going to, for the example.
    """
    database = (folder / DATABASE_FILE).is_file()
    facts, text = _read(folder / "README.md")
    text = text.strip() or f"# {manifest['name']}"
    use, contents = (_of_database if database else _of_bundle)(folder, repo_id)
    for title, body in {"Use": use, "Contents": contents}.items():
        if f"## {title}" not in text:
            text += f"\n\n## {title}\n\n{body}"
    known = DATABASE_FACTS if database else BUNDLE_FACTS
    _write(folder / "README.md", {**known, **facts}, text)


def space_card(path: Path, model: str | None) -> None:
    """Names the model a Space loads, which the Hub then fetches while it builds the Space.

    Args:
        path: the README.md of the project.
        model: `owner/name` on the Hub; None when the bundle is sent along.
    """
    facts, text = _read(path)
    if model is None:
        facts.pop("models", None)
    else:
        facts.update(models=[model], preload_from_hub=[model])
    _write(path, facts, text)


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text of a card, empty when there is none."""
    from huggingface_hub import RepoCard

    if not path.is_file():
        return {}, ""
    text = path.read_text(encoding="utf-8")
    if not text.startswith("---"):
        return {}, text
    card = RepoCard(text, ignore_metadata_errors=True)
    return card.data.to_dict(), card.text


def _write(path: Path, facts: dict[str, Any], text: str) -> None:
    import yaml  # comes with huggingface_hub, which reads cards with it

    front = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=1000)
    write_atomic(path, f"---\n{front}---\n\n{text.strip()}\n".encode())


def _of_bundle(folder: Path, repo_id: str) -> tuple[str, str]:
    """How a bundle is used, and what it holds."""
    use = (
        "```python\nfrom rissole import RissolePipeline\n\n"
        f'pipe = RissolePipeline.from_pretrained("{repo_id}")\n'
        'pipe(pipe.retrieve(k=8), seed=0).images[0].save("picture.png")\n```\n\n'
        f"Or in the browser: `python app.py --bundle {repo_id}`."
    )
    config = json.loads((folder / "config.json").read_bytes())
    parts = [part for part in PARTS if (folder / part).is_dir()]
    rows = "\n".join(f"| `{part}/` | {_parameters(folder / part):,} |" for part in parts)
    shipped = ", ".join(f"{name} {value}" for name, value in config["defaults"].items())
    size = f"Pictures of {config['image_size']} pixels. Settings: {shipped}."
    return use, f"| part | parameters |\n|---|---|\n{rows}\n\n{size}"


def _of_database(folder: Path, repo_id: str) -> tuple[str, str]:
    """How a database is used, and what it holds."""
    use = f"```bash\npython -m rissole sample --database {repo_id} --out picture.png\n```"
    facts = DatabaseFacts.read(folder)
    return use, (
        f"{facts.count:,} pictures ({facts.label}), {facts.image_size} pixels: latents, "
        "thumbnails and an index of nearest neighbors. The pictures can be seen in it: share it "
        "only if you may share them."
    )


def _parameters(folder: Path) -> int:
    """Numbers in the safetensors files of a folder."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return total
