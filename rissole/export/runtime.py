"""ONNX Runtime for browsers: one version, from the npm registry or from a folder, hash checked."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import urllib.request
from pathlib import Path

from rissole.config import RissoleError
from rissole.storage.files import cache_folder, write_atomic

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
ADDRESS = f"https://registry.npmjs.org/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
TIMEOUT = 60.0  # seconds without an answer


def copy_runtime(target: Path, source: Path | None = None) -> None:
    """Puts the runtime's files, and its license, into a folder.

    Args:
        target: the folder.
        source: where the package's file `.tgz` lies, or a folder with it; None asks the cache, then
            the registry.

    Raises:
        RissoleError: one line, when it cannot be had or is not the version that is expected.
    """
    archive = fetched() if source is None else given(source)
    target.mkdir(parents=True, exist_ok=True)
    wanted = {f"package/dist/{name}": name for name in FILES}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as package:
        for member in package:
            if member.name in wanted and (file := package.extractfile(member)):
                write_atomic(target / wanted.pop(member.name), file.read())
    if wanted:
        raise RissoleError(f"{PACKAGE} {VERSION} lacks {min(wanted.values())}")
    said = f"{PACKAGE} {VERSION}, Copyright (c) Microsoft: MIT License\n"
    write_atomic(target / "LICENSE", said.encode())


def given(source: Path) -> bytes:
    """The package from a file or a folder.

    Raises:
        RissoleError: when it is not there, or another one.
    """
    path = source / ADDRESS.rpartition("/")[2] if source.is_dir() else source
    if not path.is_file():
        raise RissoleError(f"no {path.name} in {source.name}: `npm pack {PACKAGE}@{VERSION}`")
    return checked(path.read_bytes(), path.name)


def fetched() -> bytes:
    """The package from the cache, else from the registry.

    Raises:
        RissoleError: when there is no network, or what comes is something else.
    """
    kept = cache_folder() / "runtime" / ADDRESS.rpartition("/")[2]
    if kept.is_file():
        return checked(kept.read_bytes(), kept.name)
    try:
        with urllib.request.urlopen(ADDRESS, timeout=TIMEOUT) as answer:
            archive = checked(answer.read(), "what the registry sent")
    except OSError as error:
        raise RissoleError(
            f"{PACKAGE} {VERSION} could not be fetched ({error}): without network, "
            f"`npm pack` it elsewhere and give the folder with --runtime"
        ) from error
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(kept, archive)
    return archive


def checked(archive: bytes, what: str) -> bytes:
    """The archive itself.

    Raises:
        RissoleError: when its hash is not the one that is known.
    """
    if base64.b64encode(hashlib.sha512(archive).digest()).decode() != SHA512:
        raise RissoleError(f"{what} is not {PACKAGE} {VERSION}: its SHA-512 differs")
    return archive
