"""Who looks for neighbors: chooses the query, embeds it, and searches the database with it."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from itertools import islice

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rissole.config import MAX_SEED, RissoleError, iterated, quoted, whole_number
from rissole.data.images import CALLER, Caps, ImageSource, load_square, to_tensor
from rissole.models.autoencoder import Codec
from rissole.noise import choice
from rissole.retrieval.contents import to_webp
from rissole.retrieval.database import Database, Hits, searchable
from rissole.retrieval.encoders import QueryEncoder, missing_encoder, text_missing
from rissole.retrieval.index import VectorIndex
from rissole.retrieval.words import named_classes

MAX_PICTURES = 256  # in a database that lives in memory
TYPICAL = 512  # pictures of a class, or of all, that say what is typical of them


def check_text(**given: str | None) -> None:
    """Raises RissoleError for what is no text; None, what was not given, passes."""
    for name, value in given.items():
        if not isinstance(value, str | None):
            raise RissoleError(f"{name} must be a string, not {quoted(value)}")


class Retriever:
    """A database, and what it can be searched by. Safe to share among threads.

    Args:
        database: what is searched.
        codec: makes latents of pictures that come from elsewhere.
        encoders: by name, what pictures can be compared by.
        image_size: side in pixels to which a query is brought.
        default: name of the encoder that is used unless another one is asked for.
        lock: held while the codec computes.
    """

    def __init__(
        self,
        database: Database,
        codec: Codec,
        encoders: Mapping[str, QueryEncoder],
        image_size: int,
        default: str = "latent",
        lock: AbstractContextManager | None = None,
    ):
        self.database, self.codec, self.encoders = database, codec, dict(encoders)
        self.image_size, self.default = image_size, default
        self._lock, self._index_lock = lock or threading.Lock(), threading.Lock()
        self._indexes: dict[str, VectorIndex] = {}
        self._check()

    def with_database(self, database: Database) -> Retriever:
        """The same for another database; nothing is copied."""
        other = copy(self)
        other.database, other._indexes = database, {}
        other._check()
        return other

    def with_encoder(self, name: str) -> Retriever:
        """The same with another encoder where none is asked for; nothing is copied.

        Raises:
            RissoleError: when there is none of that name here.
        """
        other = copy(self)
        other.default = self.find_encoder(name).name
        return other

    def learn(self, encoder: QueryEncoder) -> None:
        """Adds an encoder that was loaded since, here and in all that share the encoders."""
        self.encoders.setdefault(encoder.name, encoder.to(self.device))

    def _check(self) -> None:
        """Raises RissoleError when the encoder is not here, or the index cannot be of its own."""
        self.find_encoder(self.default)
        own = self.encoders.get(self.database.facts.encoder_name)
        if own is not None:
            searchable(self.database.index, own)

    @property
    def encoder(self) -> QueryEncoder:
        """What pictures are compared by, unless `retrieve` is told otherwise."""
        return self.find_encoder(self.default)

    @property
    def device(self) -> torch.device:
        """Where queries are encoded."""
        return next(self.codec.parameters()).device

    def find_encoder(self, name: str) -> QueryEncoder:
        """An encoder by its name.

        Raises:
            RissoleError: when there is none of that name here.
        """
        check_text(encoder=name)
        if name not in self.encoders:
            raise missing_encoder(name)
        return self.encoders[name]

    @property
    def text_encoder(self) -> QueryEncoder | None:
        """What reads words; None where nothing does."""
        return next((encoder for encoder in self.encoders.values() if encoder.reads_text), None)

    def retrieve(
        self,
        image: ImageSource | None = None,
        text: str | None = None,
        item: int | None = None,
        k: int = 8,
        seed: int | None = None,
        label: str | None = None,
        encoder: str | None = None,
    ) -> Hits:
        """Finds the k nearest pictures of the database.

        Args:
            image: a query: a picture of any size and kind, see `load_image`.
            text: a query in words. The name of a class finds the pictures that are most typical of
                it (`rissole.retrieval.words`); anything else needs a text encoder.
            item: a picture of the database; it is not among its own neighbors, unless there is no
                other one.
            k: 1 to 16; fewer are found where the database, or the class, holds no more.
            seed: draws the random item that is taken when no query is given.
            label: only pictures of this class, the random item included.
            encoder: what they are compared by, in place of `self.encoder`.

        Raises:
            RissoleError: for more than one query, an unknown item or k out of range.
        """
        if sum(query is not None for query in (image, text, item)) > 1:
            raise RissoleError("give one query: an image, a text or an item")
        check_text(text=text)
        named = [] if text is None or label is not None else self.named_classes(text)
        used, picture = self._encoder_for(None if named else text, encoder), None
        if image is not None:
            picture = load_square(image, self.image_size)
        elif text is None and item is None:
            item = self._random_item(seed, label)
        index = self.index(used)
        if picture is not None:
            vector = self._picture_vector(used, picture)
        elif text is not None:
            vector = self._words_vector(used, text, named)
        else:
            item = whole_number(item, "item", 0, len(self.database) - 1)
            picture, vector = self.database.image(item), index.vector(item)
        only = named or label
        ids, scores = self.database.search(vector, k, exclude=item, label=only, index=index)
        if not ids:  # of a database, or a class, of one picture: better than none
            ids, scores = self.database.search(vector, k, label=only, index=index)
        images, labels = [self.database.image(i) for i in ids], self.database.labels(ids)
        return Hits(ids, scores, images, query=picture, item=item, labels=labels, text=text)

    def named_classes(self, text: str) -> list[str]:
        """The classes of the database that words name; no model is needed for them.

        Raises:
            RissoleError: for what is no text.
        """
        check_text(text=text)
        return named_classes(text, self.database.classes)

    def similarity(
        self, query: ImageSource | int | None, ids: Iterable[int], text: str | None = None
    ) -> list[float]:
        """Cosine similarity of a picture, an item or a text to items, as in `retrieve`.

        Raises:
            RissoleError: without a query, and for an item that is not there.
        """
        if query is None and text is None:
            raise RissoleError("give a query: an image, an item or a text")
        last = len(self.database) - 1
        ids = [whole_number(i, "each of ids", 0, last) for i in iterated(ids, "ids")]
        named = [] if text is None else self.named_classes(text)
        used = self._encoder_for(None if named else text, None)
        index = self.index(used)
        if text is not None:
            vector = self._words_vector(used, text, named)
        elif isinstance(query, (int, np.integer)):
            vector = index.vector(whole_number(query, "item", 0, last))
        else:
            assert query is not None  # else there is a text
            vector = self._picture_vector(used, load_square(query, self.image_size))
        return [min(1.0, float(vector @ index.vector(i))) for i in ids]

    def usual_nearness(self) -> float:
        """Median cosine similarity of the database's pictures to the nearest other one.

        Of very many, some are asked. What is far nearer to one of them is a copy rather than alike.
        """
        index = self.index(self.encoder)
        some = range(0, len(index), -(-len(index) // TYPICAL))
        scores, _ = index.search(np.stack([index.vector(i) for i in some]), 2)
        return min(
            1.0, float(np.median(scores[:, -1]))
        )  # the first one found is the picture itself

    def index(self, encoder: QueryEncoder) -> VectorIndex:
        """The database's index for an encoder, made on first use where it has none.

        Takes some 60 ms a picture for CLIP on two cores, once: it is kept.

        Raises:
            RissoleError: when the database was made with another encoder of that name.
        """
        with self._index_lock:
            if encoder.id not in self._indexes:
                self._indexes[encoder.id] = self.database.index_for(encoder)
            return self._indexes[encoder.id]

    def prepare(self, encoder: str) -> None:
        """Makes the database's vectors for an encoder now rather than at the first query.

        Raises:
            RissoleError: when the encoder is not there or the database was made with another.
        """
        self.index(self.find_encoder(encoder))

    def preparing(self, encoder: QueryEncoder) -> Generator[None, None, None]:
        """Makes the index for an encoder in steps, for who does other things in between."""
        if encoder.id in self._indexes:
            return
        for index in self.database.indexing(encoder):
            if index is None:
                yield
            else:
                self._indexes.setdefault(encoder.id, index)

    def encode(self, picture: ImageSource) -> Tensor:
        """Latent (1, C, S, S), on the CPU, of a picture of any size."""
        pixels = to_tensor(load_square(picture, self.image_size)).to(self.device)
        with self._lock, torch.inference_mode():
            return self.codec.encode(pixels).float().cpu()

    def gather(self, pictures: Iterable[ImageSource], label: str, caps: Caps = CALLER) -> Database:
        """A database of a few pictures that is never written to disk.

        What is no picture is left out and named in the result's `skipped`.

        Args:
            pictures: of any kind that `load_image` takes, 1 to 256 of them.
            label: what they are, for people.
            caps: how large each may be.

        Raises:
            RissoleError: when none of them is a picture.
        """
        *_, database = self.gathering(pictures, label, caps)
        assert database is not None
        return database

    def gathering(
        self, pictures: Iterable[ImageSource], label: str, caps: Caps = CALLER
    ) -> Generator[Database | None, None, None]:
        """The same in steps, for who does other things in between.

        Yields:
            None after each step, and at last the database.
        """
        images, skipped = [], []
        for source in islice(iterated(pictures, "pictures"), MAX_PICTURES + 1):
            try:
                images.append(load_square(source, self.image_size, caps))
            except RissoleError as error:
                skipped.append(str(error))
            yield None
        if not 1 <= len(images) <= MAX_PICTURES:
            reason = f": {skipped[0]}" if skipped and not images else ""
            raise RissoleError(f"give 1 to {MAX_PICTURES} pictures{reason}")
        latents, webp = [], []
        for image in images:
            latents.append(self.encode(image))
            webp.append(to_webp(image))
            yield None
        made, encoder = torch.cat(latents), self.encoders["latent"]
        with torch.inference_mode():
            database = Database.of_pictures(made, images, webp, encoder, label)
        database.skipped = skipped
        yield database

    def _encoder_for(self, text: str | None, name: str | None) -> QueryEncoder:
        """The encoder that was asked for, else one that can read the query."""
        if name is not None:
            return self.find_encoder(name)
        used = self.encoder if text is None else self.text_encoder
        if used is None:
            some = ", ".join(self.database.classes[:5])
            known = f" (names of classes need none: {some})" if some else ""
            raise RissoleError(f"{text_missing()}{known}")
        return used

    def _typical(self, index: VectorIndex, classes: Sequence[str]) -> np.ndarray:
        """Unit vector (dim,) in the middle of classes; of very many pictures, of some."""
        members = self.database.members(*classes).nonzero()[0]
        if not len(members):
            raise RissoleError(f"the database has no picture of class {quoted(classes[0])}")
        some = members[:: -(-len(members) // TYPICAL)]
        middle = np.mean([index.vector(i) for i in some], axis=0)
        return middle / max(float(np.linalg.norm(middle)), 1e-12)

    def _random_item(self, seed: int | None, label: str | None) -> int:
        seed = secrets.randbits(64) if seed is None else whole_number(seed, "seed", 0, MAX_SEED)
        if label is None:
            return choice(seed, len(self.database))
        members = self.database.members(label).nonzero()[0]
        if not len(members):
            raise RissoleError(f"the database has no picture of class {quoted(label)}")
        return int(members[choice(seed, len(members))])

    def _picture_vector(self, encoder: QueryEncoder, picture: Image.Image) -> np.ndarray:
        latents = self.encode(picture).to(self.device)
        with torch.inference_mode():
            return encoder(to_tensor(picture).to(self.device), latents)[0].cpu().numpy()

    def _words_vector(self, encoder: QueryEncoder, text: str, named: Sequence[str]) -> np.ndarray:
        """Of the classes that words name, else of the words themselves."""
        if named:
            return self._typical(self.index(encoder), named)
        if not text.strip():
            raise RissoleError("the text to search for is empty")
        with torch.inference_mode():
            return encoder.text([text])[0].cpu().numpy()
