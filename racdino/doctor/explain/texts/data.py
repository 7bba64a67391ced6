"""What the data set, its info files and damaged files say."""

from __future__ import annotations

from racdino.doctor.explain.known import Known

_FOLDER = "--root data/nuscenes --version v1.0-trainval"
_PREPARE = f"`racdino data prepare {_FOLDER}`"
_CHECK = f"`racdino data check {_FOLDER}`"

KNOWN = (
    Known(
        "RX801",
        ("KeyError: 'infos'",),
        "the info file is of another mmdet3d: 1.1 and newer write `data_list` where 1.0 reads `infos`",
        f"{_PREPARE} writes the right ones",
        "mmdet3d#2454, #2526; bevfusion#579",
        doctor="RD814",
    ),
    Known(
        "RX802",
        (
            "KeyError: 'cam2lidar_rotation'",
            "KeyError: 'cam_sweeps'",
            "KeyError: 'cam_sweeps_prev'",
            "KeyError: 'lidar_sweeps'",
        ),
        "the info files are mmdet3d's own, without the sweeps that SparseBEV and RaCFormer read",
        f"{_PREPARE} writes the right ones",
        "SparseBEV#72, #31, #78",
        doctor="RD814",
    ),
    Known(
        "RX803",
        ("No such file or directory: '…nuscenes_infos_….pkl'",),
        "the info files that the config names are not there",
        _PREPARE,
        "SparseBEV#72",
        doctor="RD813",
    ),
    Known(
        "RX804",
        ("Database version not found: …",),
        "the tables of nuScenes are not in {0}",
        "`ln -s /path/to/nuscenes data/nuscenes` in the checkout, or give the right `--version`: v1.0-trainval, "
        "v1.0-mini",
        "nuscenes/nuscenes.py",
        doctor="RD811",
    ),
    Known(
        "RX805",
        (
            "No such file or directory: '…/sweeps/…'",
            "No such file or directory: '…/samples/…'",
            "FileNotFoundError: img file does not exist: …",
        ),
        "a recording that the info files name is not there, as after a partial download",
        f"{_CHECK} counts what is missing; unpack the missing parts, or leave out what needs them: "
        f"`racdino data prepare {_FOLDER} --on-damage skip`",
        "RCBEVDet#16; bevfusion#528",
        doctor="RD811",
    ),
    Known(
        "RX806",
        ("KeyError: 'radar'", "KeyError: 'radars'", "KeyError: 'RADAR_FRONT'"),
        "the info files hold no radar: another project's tool wrote them",
        f"{_PREPARE} writes the right ones",
        "bevfusion#481, #517; CRN#1, #13",
        doctor="RD814",
    ),
    Known(
        "RX807",
        (
            "image file is truncated (… bytes not processed)",
            "cannot identify image file '…'",
            "Premature end of JPEG file",
        ),
        "an image file is cut off or damaged",
        f"{_CHECK} names the damaged ones: unpack them again",
        "PIL/ImageFile.py",
    ),
    Known(
        "RX808",
        ("pickle data was truncated", "EOFError: Ran out of input"),
        "a file of Python objects, an info file or a cache, ends too early: its writing was interrupted",
        f"delete it and write it again: {_PREPARE}",
        "Python's pickle manual",
    ),
    Known(
        "RX809",
        (
            "failed finding central directory",
            "PytorchStreamReader failed reading file",
            "invalid header or archive is corrupted",
        ),
        "a checkpoint is cut off: its download or its writing was interrupted",
        "`racdino weights fetch NAME` continues and checks the hash; for a run of your own take the checkpoint before "
        "it",
        "torch/csrc, caffe2/serialize",
        doctor="RD802",
    ),
    Known(
        "RX810",
        ("invalid load key, '<'",),
        "the weights are a web page that was saved under their name",
        "`racdino weights fetch NAME`, which checks the hash; `head -c 200 FILE` shows the page",
        "torch/serialization.py",
        doctor="RD802",
    ),
    Known(
        "RX811",
        ("invalid load key, 'v'",),
        "the file is git-lfs' pointer to the weights and not the weights",
        "`git lfs install && git lfs pull`, or `racdino weights fetch NAME`",
        "git-lfs' manual",
        doctor="RD802",
    ),
    Known(
        "RX812",
        ("Samples in split doesn't match samples in predictions",),
        "the results do not cover the whole split: another version (mini against trainval), or an interrupted test",
        "let `data.val.ann_file`, `version` and the results be of one version, and run the whole test again",
        "nuscenes/eval/detection/evaluate.py",
    ),
    Known(
        "RX813",
        ("Error: Requested split … which is not compatible with NuScenes version …",),
        "the split {0} is not in the version of nuScenes that is installed",
        "mini_train and mini_val go with v1.0-mini, train and val with v1.0-trainval",
        "nuscenes/eval/common/loaders.py",
    ),
    Known(
        "RX814",
        ("buffer size must be a multiple of element size", "ValueError: cannot reshape array of size …"),
        "a radar file in PCD format is read as bare float32 numbers, which a PCD file with its header is not",
        "use `LoadradarpointsFromMultiSweeps` as in configs/, which reads PCD",
        "mmdet3d#250, #1149",
        within="adar",
    ),
    Known(
        "RX815",
        ("unsupported pickle protocol: 5",),
        "the file was written with Python 3.8 or newer and this Python is older",
        "use Python 3.10: `make setup`",
        "PEP 574",
    ),
    Known(
        "RX816",
        ("No such file or directory: '/home/…'",),
        "a path of somebody else's home folder is written into a config or a source: /home/{0}",
        "`racdino doctor PATH` names the line; make it relative to the checkout, such as data/nuscenes/",
        "the user's record 5",
        doctor="RD740",
    ),
)
