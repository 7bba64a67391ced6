"""What a checkout's imports and mmcv's registries say."""

from __future__ import annotations

from racdino.doctor.explain.known import Known

_MISSING = (
    "mmcv",
    "mmdet",
    "mmdet3d",
    "mmseg",
    "spconv",
    "nuscenes",
    "pyquaternion",
    "numba",
    "cv2",
    "numpy",
    "torchvision",
)

KNOWN = (
    Known(
        "RX601",
        ("No module named 'dino_v2_adapter'",),
        "the `__init__.py` of dino_v2_with_adapter imports its own folder as if it were a module of its own",
        "`racdino doctor --fix PATH`, or `from .dino_v2_adapter import DinoAdapter` there",
        "the user's record 1",
        doctor="RD601",
    ),
    Known(
        "RX602",
        ("No module named 'nets'", "No module named 'nets.…'"),
        "a file imports by `nets....`, which exists only with models/backbones in sys.path, and then makes a cycle",
        "`racdino doctor --fix PATH`, or the relative import, in vision_transformer.py `from ..layers import ...`",
        "the user's record 2",
        doctor="RD602",
    ),
    Known(
        "RX603",
        ("(most likely due to a circular import)", "partially initialized module '…' has no attribute"),
        "modules import each other in a circle, mostly by an absolute import such as `from nets...` inside models/",
        "`racdino doctor --only imports PATH` prints the circle; make the import relative (`--fix` does)",
        "the user's record 2",
        doctor="RD603",
    ),
    Known(
        "RX604",
        ("is already registered in …",),
        "a class of this name is registered twice in mmcv's registry of {0}: two copies, or one file imported by two "
        "paths",
        "`racdino doctor --only imports PATH` names both files; keep one, and import it by one path only",
        "the user's record 2; mmcv/utils/registry.py",
        doctor="RD610",
    ),
    Known(
        "RX605",
        (" is not in the … registry",),
        "the config names a type that nothing has registered as one of the {0}: its file is not imported, or misspelt",
        "import the file in its package's `__init__.py`, or name it in `custom_imports` of the config",
        "mmcv/utils/registry.py",
        doctor="RD718",
    ),
    Known(
        "RX606",
        ("DinoAdapter is not in the … registry",),
        "DinoAdapter is not registered when the config is built: models.backbones has not imported it",
        "`import models` before building, and `from .nets.dino_v2_with_adapter import DinoAdapter` in "
        "models/backbones/__init__.py",
        "the user's record 1",
        doctor="RD718",
    ),
    Known(
        "RX607",
        (
            "No module named 'models'",
            "No module named 'models.…'",
            "No module named 'loaders'",
            "No module named 'loaders.…'",
        ),
        "the program does not run in the checkout's folder, or another `models` is installed",
        "`cd` to the folder with models/ and configs/, or `export PYTHONPATH=$PWD` there",
        "the user's record, its five steps",
    ),
    Known(
        "RX608",
        (
            "attempted relative import with no known parent package",
            "attempted relative import beyond top-level package",
        ),
        "a file inside a package is run as a program, or imported by a path that is not the package's",
        "run it from the checkout's folder as a module: `python -m models.backbones...`",
        "Python's tutorial, Packages",
    ),
    Known(
        "RX609",
        ("cannot import name 'DinoAdapter' from '…'",),
        "the package {0} does not define or import DinoAdapter",
        "`racdino doctor --fix PATH`, or in the `__init__.py` of each folder on the way `from .<folder> import "
        "DinoAdapter`",
        "the user's record 1",
        doctor="RD605",
    ),
    Known(
        "RX610",
        tuple(f"No module named '{name}'" for name in _MISSING)
        + tuple(f"No module named '{name}.…'" for name in _MISSING),
        "a package of the stack is not installed in this Python",
        "`source .venv/bin/activate` in RacDINO's folder; if it is missing there too, `make setup`",
        "the user's record 6",
        doctor="RD301",
    ),
    Known(
        "RX611",
        ("No module named 'torch'",),
        "torch is not installed in this Python",
        "`source .venv/bin/activate` in RacDINO's folder; if it is missing there too, `make setup`",
        "the user's record 6",
        doctor="RD301",
    ),
    Known(
        "RX612",
        ("No module named 'vod'", "No module named 'vod.…'", "No module named 'lyft_dataset_sdk'"),
        "the loaders import another data set's kit without asking whether it is there",
        "remove that import from loaders/__init__.py; mmdet3d's own wants "
        "`python -m pip install --no-deps lyft-dataset-sdk==0.0.8`",
        "RaCFormer, loaders/__init__.py",
        doctor="RD604",
    ),
    Known(
        "RX613",
        ("    <<<<<<< …", "    >>>>>>> …"),
        "the file still has git's merge markers in it",
        "`git diff --check` lists them: choose one side of each, or `git checkout -- FILE`",
        "git's manual, git-diff --check",
        doctor="RD609",
        within="SyntaxError",
    ),
    Known(
        "RX614",
        ("SyntaxError: (unicode error) 'utf-8' codec can't decode byte", "SyntaxError: Non-UTF-8 code starting with"),
        "a Python file is saved in another encoding than UTF-8, mostly GBK",
        "save it as UTF-8: `iconv -f GBK -t UTF-8 FILE > NEW && mv NEW FILE`",
        "PEP 263",
        doctor="RD609",
    ),
)
