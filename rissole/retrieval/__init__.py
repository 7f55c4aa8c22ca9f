"""Finding neighbors: query encoders, indexes and databases."""
