# ruff: noqa: PTH102, PTH103, PTH112, PTH117  (pathlib would cost every Python of the image several milliseconds)
"""Run at the start of every Python of the image, so that it serves any user, with or without the image's entrypoint.

A user whom the image does not know (``--user 12345``), or whose home is not in the container (pyxis, apptainer) or
cannot be written (``--read-only``), has no place for the caches of torch, triton, numba and matplotlib and no name.
All four look below HOME and at the environment's user name, so these are mended and no variable of theirs is set.
"""

import os


def _writable(folder):
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def _private_folder(parent, uid):
    """A folder in ``parent`` that only we can write: others may have made one of its name to read or plant caches."""
    import stat

    path = f"{parent}/racdino-{uid}"
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or stat.S_IMODE(found.st_mode) & 0o077:
            import tempfile

            return tempfile.mkdtemp(prefix=f"racdino-{uid}-", dir=parent)
    return path


def _mend_home(uid):
    home = os.environ.get("HOME", "")
    if os.path.isabs(home) and _writable(home):
        return
    for parent in (os.environ.get("TMPDIR", ""), "/tmp"):  # a scheduler's TMPDIR may not be in the container
        if os.path.isabs(parent) and _writable(parent):
            os.environ["HOME"] = _private_folder(parent, uid)
            return


def _drop_unusable(name):
    """A cache folder of the machine outside outranks HOME, also where it is not in the container."""
    folder = os.environ.get(name)
    if folder and not _writable(folder):
        try:
            os.makedirs(folder)
        except OSError:
            del os.environ[name]


def _mend_user(uid):
    import pwd

    try:
        pwd.getpwuid(uid)
    except KeyError:
        os.environ.setdefault("USER", f"uid{uid}")
        os.environ.setdefault("LOGNAME", os.environ["USER"])


if os.environ.get("RACDINO_IMAGE"):
    try:
        _mend_home(os.geteuid())
        _drop_unusable("XDG_CACHE_HOME")
        _drop_unusable("XDG_CONFIG_HOME")
        _mend_user(os.geteuid())
    except OSError:  # a full or vanished TMPDIR: this Python must start all the same
        pass
