"""Photos as people have them: JPEG files, and parquet files of data sets."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
from conftest import picture
from PIL import Image


def jpeg(image: Image.Image, quality: int = 90, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


def write_parquet(path: Path, count: int, first: int = 0, names=("cat", "dog")) -> None:
    """A file as the `datasets` library writes it, with class names in its metadata."""
    rows = [
        {"image": {"bytes": jpeg(picture(i)), "path": None}, "label": i % 2}
        for i in range(first, first + count)
    ]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    table = pa.Table.from_pylist(rows).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    parquet.write_table(table, path, row_group_size=4)
