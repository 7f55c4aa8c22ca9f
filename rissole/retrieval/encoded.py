"""What the network makes of a set of neighbors, kept while one paints with them again and again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from rissole.models.interface import BlockDenoiser
from rissole.retrieval.database import Database

SETS = 4  # kept, of some 4 MB each for eight neighbors


class EncodedNeighbors:
    """The features of the last sets of neighbors.

    Of whole sets, not of pictures: what is computed of eight at once differs in its last bits from
    what is computed of each. Pictures of a visit are not kept beyond a painting.
    """

    def __init__(self) -> None:
        self._sets: OrderedDict[Any, Any] = OrderedDict()

    def __call__(self, denoiser: BlockDenoiser, database: Database, ids: Sequence[int]) -> Any:
        """See `BlockDenoiser.encode_neighbors`; for one thread at a time.

        Args:
            denoiser: encodes them, where and as precisely as it computes.
            database: holds them.
            ids: of the neighbors, in order.
        """
        weights = next(denoiser.parameters())
        key = (database.fingerprint, tuple(ids), weights.device, weights.dtype)
        features = self._sets.pop(key, None)
        if features is None:
            latents = database.latents(ids)[None].to(weights.device, weights.dtype)
            features = denoiser.encode_neighbors(latents)
        if not database.in_memory:
            self._sets[key] = features
            if len(self._sets) > SETS:
                self._sets.popitem(last=False)
        return features
