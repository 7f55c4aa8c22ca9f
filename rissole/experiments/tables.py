"""Tables of a comparison, and the picture beside each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import load_file

from rissole.data.images import save_png
from rissole.experiments.bench import LITE
from rissole.experiments.cases import Case
from rissole.experiments.comparison import pictures_path
from rissole.experiments.sheets import labeled_sheet
from rissole.storage.files import write_atomic


def write_report(run: Path, cases: list[Case], name: str) -> Path:
    """Writes `comparison/NAME.md`, a table, and `NAME.png`: a row per method, a column per query.

    The picture leaves out what photos can be recognized in.
    """
    out = run / "comparison"
    rows = json.loads((out / "rows.json").read_bytes())
    present = [c.name for c in cases if c.name in rows]
    header = ["", "parameters", "GPU minutes", "calls", "s, CPU", "GB, CPU", "s, GPU", "FD",
              "FD, check network", "FD, EfficientNet-Lite2", "KD x 1000", "precision", "recall",
              "seam ratio", "probe AUC", "copies"]  # fmt: skip
    if any("class_agreement" in rows[n]["features"] for n in present):
        header.append("right class")
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(_cells(n, rows[n]))} |" for n in present]
    write_atomic(out / f"{name}.md", ("\n".join(lines) + "\n").encode())
    if painted := [n for n in present if "parameters" in rows[n]]:
        save_png(_sheet(out, painted), out / f"{name}.png")
    return out / f"{name}.md"


def _cells(name: str, row: dict[str, Any]) -> list[str]:
    features, check = row["features"], row.get("check", {})
    low, high = features["fd_ci95"]
    copied = max(row["copies"].values())
    return [
        name,
        f"{row['parameters'] / 1e6:.1f} M" if "parameters" in row else "",
        f"{row['minutes']:.1f}" if row.get("minutes") else "",
        f"{row['network_calls']:,}" if "network_calls" in row else "",
        f"{row['cpu_seconds']:.2f}" if "cpu_seconds" in row else "",
        f"{row['cpu_peak_memory_gb']:.2f}" if "cpu_seconds" in row else "",
        f"{row['seconds_per_image_batched']:.4f}" if row.get("device", "cpu") != "cpu" else "",
        f"{features['fd']:.1f} ({low:.1f} to {high:.1f})",
        f"{check['fd']:.1f}" if check else "",
        f"{row[LITE]['fd']:.1f}" if LITE in row else "",
        f"{1000 * features['kd']:.2f}",
        f"{features['precision']:.2f}",
        f"{features['recall']:.2f}",
        f"{row['seam_ratio']:.3f}",
        f"{row['probe']['auc']:.2f}",
        f"{100 * copied:.1f} %",
        *([f"{100 * agreement:.0f} %"] if (agreement := features.get("class_agreement")) else []),
    ]


def _sheet(out: Path, names: list[str], columns: int = 8, label: int = 190) -> Image.Image:
    """The same queries down the columns."""
    pictures = [load_file(pictures_path(out, n))["images"][:columns] for n in names]
    rows = [[Image.fromarray(x.permute(1, 2, 0).numpy()) for x in row] for row in pictures]
    return labeled_sheet(names, rows, label)
