"""From environment/pins.toml to the locks beside it, and the proof that they still follow from it."""
