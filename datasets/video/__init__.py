"""Videos: frames decoded by number, the index and the cache that save decoding."""
