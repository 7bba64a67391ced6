"""The one exception of the main job."""


class VerifyError(Exception):
    """A check failed or an input is unusable; the message is one sentence that says what, where and what to do."""
