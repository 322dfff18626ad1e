"""Real J-HMDB masks rendered into videos, and what was measured on them."""
