"""The form of files that anybody may have written: JSON and the heads of safetensors files.

A form is a dataclass or a typed dictionary. Reading is strict: no name that it lacks, no value of
another kind, nothing out of range or not finite, and never more bytes than such a file needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from rissole.config import quoted

MAX_BYTES = 16 * 2**20  # of a JSON file: the names of 17 MB of classes would be read by nobody
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")  # what pydantic calls names too many

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Width = Annotated[int, Field(ge=1, le=65_536)]  # of a layer, or of a picture in pixels
Depth = Annotated[int, Field(ge=0, le=64)]  # layers on top of each other
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=200)]

# names of safetensors; weights may be kept in any precision, whole numbers only as they are
FLOATS = ("F16", "BF16", "F32")
Wanted = Mapping[str, tuple[Sequence[str], Sequence[int | None]]]

Form = TypeVar("Form")
_adapter: Any = cache(TypeAdapter)


class OddError(ValueError):
    """What a file holds is not of its form; the text is one line.

    Attributes:
        place: names and numbers that lead to the odd value, none where the whole is odd.
    """

    def __init__(self, text: str, place: tuple[int | str, ...] = ()):
        super().__init__(text)
        self.place = place


def reason(error: Exception) -> str:
    """What an error says, in one line of at most 200 characters, without this machine's folders."""
    text = str(error)
    if isinstance(error, OSError):
        text = (error.strerror or text.partition(":")[0]).lower()
        text += f" ({Path(error.filename).name})" if isinstance(error.filename, str) else ""
    return " ".join(text.split())[:200] or type(error).__name__


def read_json(path: Path, form: type[Form]) -> Form:
    """Reads a JSON file of a form.

    Raises:
        OSError: when it cannot be read.
        OddError: names the first value that is odd.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise OddError(f"odd {path.name}: larger than {MAX_BYTES // 2**20} MB")
    return parse(data, form, path.name)


def parse(data: bytes | str, form: type[Form], what: str) -> Form:
    """Parses JSON of a form; dataclasses without a `__pydantic_config__` are read as strictly.

    Args:
        data: JSON text.
        form: a dataclass, typed dictionary or pydantic model.
        what: the text as a whole, for messages.

    Raises:
        OddError: names the first value that is odd.
    """
    adapter: TypeAdapter[Form] = _adapter(form)
    try:
        made = adapter.validate_json(data, strict=True)
        if is_dataclass(form) and not hasattr(form, "__pydantic_config__"):
            _check_names(data, form)
    except ValidationError as error:
        raise _odd(error, what) from error
    return made


def check_tensors(file: Any, wanted: Wanted) -> None:
    """Checks the head of a safetensors file: exactly some tensors, of exactly some shapes.

    Args:
        file: as `safetensors.safe_open` gives it; no tensor is read.
        wanted: dtypes that may be, and shape, by name; None is any length.

    Raises:
        OddError: names the first tensor that is missing, too many or other than wanted.
    """
    found = set(file.keys())
    for name in sorted(found ^ set(wanted)):
        raise OddError(f"{quoted(name)} is {'too many' if name in found else 'missing'}")
    for name, (dtypes, shape) in wanted.items():
        head = file.get_slice(name)
        dtype, size = head.get_dtype(), tuple(head.get_shape())
        if dtype not in dtypes:
            raise OddError(f"{quoted(name)} holds {dtype}, not {' or '.join(dtypes)}")
        fits = len(size) == len(shape) and all(
            length in (None, n) for n, length in zip(size, shape, strict=True)
        )
        if not fits:
            shown = ", ".join("any" if n is None else str(n) for n in shape)
            raise OddError(f"{quoted(name)} has the shape {quoted(size)}, not ({shown})")


def _check_names(data: bytes | str, form: Any) -> None:
    """pydantic takes no notice of further names beside those of a dataclass."""
    names = TypeAdapter(dict[str, Any]).validate_json(data)
    for name in names:
        if name not in {field.name for field in fields(form)}:
            raise OddError(f"unknown {quoted(name)}", (name,))


def _odd(error: ValidationError, what: str) -> OddError:
    """The first error of pydantic in one line of our own."""
    first = error.errors(include_url=False)[0]
    place, kind = tuple(first["loc"]), first["type"]
    if kind == "json_invalid":
        return OddError(f"odd {what}: not JSON", place)
    if kind in UNKNOWN:
        return OddError(f"unknown {quoted(place[-1])}", place)
    where = ".".join(str(part) for part in place[:3]) or what
    where = where if where.isprintable() and len(where) <= 60 else quoted(where)
    if kind in ("missing", "missing_argument"):
        return OddError(f"odd {where}: missing", place)
    reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return OddError(f"odd {where}: {reason}, not {quoted(first['input'])}", place)
