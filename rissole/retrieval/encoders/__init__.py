"""Query encoders: what "near" means when neighbors are searched.

`base` says what an encoder is and holds the registry; the other modules add one each.
"""

from rissole.retrieval.encoders.base import (
    ENCODERS,
    BundleParts,
    QueryEncoder,
    encoder_names,
    load_encoders,
    missing_encoder,
    text_advice,
    text_missing,
)
from rissole.retrieval.encoders.clip import CLIP, MIT_CLIP, ClipEncoder, fetch_clip
from rissole.retrieval.encoders.latent import CornerEncoder, LatentEncoder
from rissole.retrieval.encoders.learned import LearnedConfig, LearnedEncoder

# in the order in which people are shown them; those from outside come after
for own in (LatentEncoder, CornerEncoder, LearnedEncoder, ClipEncoder):
    ENCODERS.register(own)

__all__ = [
    "CLIP",
    "ENCODERS",
    "MIT_CLIP",
    "BundleParts",
    "ClipEncoder",
    "CornerEncoder",
    "LatentEncoder",
    "LearnedConfig",
    "LearnedEncoder",
    "QueryEncoder",
    "encoder_names",
    "fetch_clip",
    "load_encoders",
    "missing_encoder",
    "text_advice",
    "text_missing",
]
