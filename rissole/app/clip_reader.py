"""The model that reads words: fetched when somebody first writes some, one for all worlds."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from rissole.config import RissoleError
from rissole.pipeline import RissolePipeline
from rissole.retrieval.encoders import MIT_CLIP, ClipEncoder, QueryEncoder, fetch_clip
from rissole.retrieval.encoders.clip import MIT_CLIP_MB

NONE = "none"  # in place of a model: names of classes are all that is understood


@dataclass(frozen=True)
class Progress:
    """How far a model is on its way.

    Attributes:
        done: bytes that have arrived.
        total: bytes in all; 0 until that is known.
        arrived: whether it is here, and looks at the pictures of a database.
        error: why it will not come; None as long as it may.
    """

    done: int = 0
    total: int = 0
    arrived: bool = False
    error: str | None = None


class Reader:
    """A CLIP model, and whether it is here.

    Args:
        source: as `ClipEncoder.load` takes it.
    """

    def __init__(self, source: str = MIT_CLIP):
        self.source, self.encoder = source, None
        self.progress: Progress | None = None  # None while nothing is on its way
        self._lock = threading.Lock()

    encoder: QueryEncoder | None

    @property
    def size(self) -> int | None:
        """MB that will be fetched, as far as that is known without asking anybody."""
        return MIT_CLIP_MB if self.source == MIT_CLIP else None

    def ready(self, pipe: RissolePipeline) -> bool:
        """Whether words find pictures of a pipeline's database without a long wait."""
        if self.encoder is None:
            return False
        pipe.retriever.learn(self.encoder)
        database = pipe.database
        own = database.facts.encoder_name == self.encoder.name
        return database.in_memory or own or database.ready(self.encoder)

    def begin(self, pipe: RissolePipeline) -> None:
        """Fetches the model and lets it look at the pictures, in the background; once at a time."""
        with self._lock:
            if self.progress is None or self.progress.error is not None:
                self.progress = Progress()
                threading.Thread(target=self._work, args=[pipe], name="reader", daemon=True).start()

    def asked(self, pipe: RissolePipeline, words: dict[str, Any]) -> str:
        """What a program is told that asks too early; with that it is on its way (again)."""
        failed = self.progress is not None and self.progress.error is not None
        before = self.said(words)
        self.begin(pipe)
        return before if failed else self.said(words)

    def _work(self, pipe: RissolePipeline) -> None:
        try:
            if self.encoder is None:
                folder = fetch_clip(self.source, self._told)
                self.encoder = ClipEncoder.load(folder, self.source)
            self.progress = Progress(arrived=True)
            pipe.retriever.learn(self.encoder)
            # not under the lock of a retriever, at which searches of other kinds would wait
            pipe.database.index_for(self.encoder)
            self.progress = None
        except RissoleError as error:
            self.progress = Progress(error=str(error))
        except Exception as error:  # of the libraries that load it
            self.progress = Progress(error=" ".join(str(error).split())[:200])

    def _told(self, done: int, total: int) -> None:
        self.progress = Progress(done, total)

    def said(self, words: dict[str, Any]) -> str:
        """What is on its way, for people."""
        now = self.progress
        if now is None:
            size = self.size
            return words["readerSize"].format(size=size) if size else words["readerUnknown"]
        if now.error is not None:
            return words["readerFailed"].format(reason=now.error)
        if now.arrived:
            return words["readerLooks"]
        if not now.total:
            return words["readerAsks"]
        done, total = (f"{count / 1e6:,.0f}" for count in (now.done, now.total))
        return words["readerFetches"].format(done=done, total=total)
