"""What a package of a wrong version says at run time."""

from __future__ import annotations

from racdino.doctor.explain.known import Known

_OWN = "in an environment of your own"
_ALIASES = ("bool", "int", "float", "object", "long", "complex", "str")


def _install(requirement: str) -> str:
    return f'`racdino doctor --fix` brings the locked version; {_OWN}: `python -m pip install "{requirement}"`'


KNOWN = (
    Known(
        "RX301",
        tuple(f"module 'numpy' has no attribute '{alias}'" for alias in _ALIASES),
        "numpy 1.24 removed the aliases np.bool, np.int, np.float, np.object and np.long, which mmdet 2.28.2, mmdet3d "
        "1.0.0rc6, the nuScenes devkit and RaCFormer's loaders use",
        _install("numpy==1.23.5"),
        "mmdet3d#2821; mmdetection#9557; OpenPCDet PR 1359; BoxInstSeg#28",
        doctor="RD311",
    ),
    Known(
        "RX302",
        (
            "A module that was compiled using NumPy 1.x cannot be run in",
            "RuntimeError: Numpy is not available",
            "was removed in the NumPy 2.0 release",
        ),
        "numpy 2 is installed, which torch 2.0 and everything compiled for numpy 1 cannot use",
        _install("numpy==1.23.5"),
        "pytorch#107302",
        doctor="RD311",
    ),
    Known(
        "RX303",
        ("size changed, may indicate binary incompatibility",),
        "a compiled package, mostly pycocotools, was built for another numpy than the one installed",
        _install('pycocotools==2.0.7" "numpy==1.23.5'),
        "mmdet3d#425",
        doctor="RD322",
    ),
    Known(
        "RX304",
        ("Numba needs NumPy …",),
        "the installed numba does not go with this numpy: it needs {0}",
        _install('numba==0.56.4" "numpy==1.23.5'),
        "mmdet3d PR 2416, #321, #602",
        doctor="RD317",
    ),
    Known(
        "RX305",
        ("FormatCode() got an unexpected keyword argument 'verify'",),
        "yapf 0.40.2 dropped an argument that mmcv-full 1.6.0 gives when it prints a config",
        _install("yapf==0.40.1"),
        "mmdetection#10962; mmaction2#2887; MV2D#8; Co-DETR#86",
        doctor="RD313",
    ),
    Known(
        "RX306",
        ("cannot import name 'packaging' from 'pkg_resources'",),
        "setuptools 70 no longer has pkg_resources.packaging, which torch 2.0's extension builder imports",
        _install("setuptools==69.5.1"),
        "pytorch3d#1834; ColBERT#350",
        doctor="RD312",
    ),
    Known(
        "RX307",
        ("No module named 'pkg_resources'",),
        "setuptools 82 has no pkg_resources, which torch 2.0 and mmcv-full's setup.py import",
        _install("setuptools==69.5.1") + " and build with `--no-build-isolation`",
        "mmcv#3325, PR 3326",
        doctor="RD312",
    ),
    Known(
        "RX308",
        ("module 'distutils' has no attribute 'version'",),
        "this torch is older than 1.11 and its tensorboard module does not go with setuptools 59.6 and newer",
        "use torch 2.0.0 (`make setup`); with the old torch `python -m pip install setuptools==59.5.0`",
        "pytorch#69894",
        doctor="RD302",
    ),
    Known(
        "RX309",
        ("Descriptors cannot be created directly", "Descriptors cannot not be created directly"),
        "protobuf 4 is installed under code that protobuf 3 generated, as that of tensorboard",
        _install("protobuf==3.20.3"),
        "tensorboard#5708; mmdet3d#1525",
        doctor="RD314",
    ),
    Known(
        "RX310",
        ("'MultiPolygon' object is not iterable",),
        "shapely 2 no longer lets one walk over a MultiPolygon, as the nuScenes devkit 1.1 does",
        _install("shapely==1.8.5.post1"),
        "nuscenes-devkit#870, #887, #1012; PETR#56",
        doctor="RD316",
    ),
    Known(
        "RX311",
        ("IndexError: too many indices for array: array is 0-dimensional, but 2 were indexed",),
        "descartes 1.1.0 draws polygons in a way that shapely 2 does not support",
        _install("shapely==1.8.5.post1"),
        "nuscenes-devkit#1180",
        doctor="RD316",
        within="descartes",
    ),
    Known(
        "RX312",
        (
            "cannot import name 'gcd' from 'fractions'",
            "module 'collections' has no attribute 'Mapping'",
            "cannot import name 'Mapping' from 'collections'",
        ),
        "a package from before Python 3.9 is installed, mostly networkx 2.2, which mmdet3d 1.0.0rc6 asks for",
        _install("networkx==2.8.8"),
        "mmdet3d#1343, #2092",
        doctor="RD318",
    ),
    Known(
        "RX313",
        ("'EnforcedForest' object has no attribute 'node'",),
        "trimesh 2.35 does not go with networkx 2.5 and newer",
        "draw with `racdino show CONFIG CHECKPOINT`, which needs no trimesh; for mmdet3d's OBJ files "
        '`python -m pip install --no-deps "trimesh>=3.23,<4"`',
        "mmdet3d#2092, #1144, #1853",
    ),
    Known(
        "RX314",
        tuple(f"module 'PIL.Image' has no attribute '{name}'" for name in ("LINEAR", "ANTIALIAS", "CUBIC")),
        "Pillow 10 removed the old names of its resampling filters",
        _install("pillow==9.5.0"),
        "detectron2#5010; nuplan-devkit#349",
        doctor="RD315",
    ),
    Known(
        "RX315",
        (
            "has no attribute 'gapi_wip_gst_GStreamerPipeline'",
            "module 'cv2.dnn' has no attribute 'DictValue'",
            "module 'cv2' has no attribute 'imread'",
        ),
        "two distributions of OpenCV have written into the same cv2 folder",
        "`python -m pip uninstall -y opencv-python opencv-python-headless opencv-contrib-python && python -m pip "
        "install "
        "opencv-python-headless==4.8.1.78`, or `racdino doctor --fix`",
        "opencv-python's manual",
        doctor="RD320",
    ),
    Known(
        "RX316",
        ("is used but incompatible. Please install …",),
        "packages of OpenMMLab that do not go together are installed; this one asks for {0}",
        "`make setup` installs mmcv-full 1.6.0, mmdet 2.28.2, mmsegmentation 0.30.0 and mmdet3d 1.0.0rc6",
        "mmdet3d/__init__.py",
        doctor="RD302",
    ),
    Known(
        "RX317",
        ("No module named 'mmcv.runner'", "No module named 'mmcv.parallel'", "cannot import name 'Config' from 'mmcv'"),
        "mmcv 2 is installed, and this code is for mmcv-full 1.x",
        "`python -m pip uninstall -y mmcv mmengine`, then `make setup` (or mmcv-full 1.6.0 from source)",
        "mmcv's migration guide",
        doctor="RD319",
    ),
    Known(
        "RX318",
        ("TensorBoard logging requires TensorBoard version 1.15 or above",),
        "tensorboard is not installed, or something else of that name is",
        _install("tensorboard==2.12.3"),
        "torch/utils/tensorboard/__init__.py",
        doctor="RD301",
    ),
    Known(
        "RX319",
        ("operator torchvision::nms does not exist", "Couldn't load custom C++ ops"),
        "torchvision was built for another torch",
        _install("torchvision==0.15.1"),
        "torchvision/extension.py",
        doctor="RD302",
    ),
    Known(
        "RX320",
        ("No module named 'numpy._core'",),
        "the file was pickled with numpy 2 and is read with numpy 1",
        "write it again with numpy 1.23.5; info files: `racdino data prepare --root data/nuscenes --version "
        "v1.0-trainval`",
        "numpy 2's release notes",
    ),
    Known(
        "RX321",
        ("libGL.so.1: cannot open shared object file",),
        "opencv-python needs the system's OpenGL library, which is not installed here",
        "`python -m pip uninstall -y opencv-python && python -m pip install --force-reinstall "
        "opencv-python-headless==4.8.1.78`, or `apt-get install -y libgl1`",
        "mmdetection#3645; mmsegmentation#1567; Open3D#2362",
        doctor="RD320",
    ),
)
