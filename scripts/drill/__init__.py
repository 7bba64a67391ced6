"""The doctor's drill: copies of the environment and of a checkout, broken on purpose, one fault at a time."""
