"""python setup.py build install: what the record's problem 3 asks for. RacDINO's own extension serves this tree as well."""

from glob import glob

from setuptools import setup

if __name__ == "__main__":
    from torch.utils.cpp_extension import BuildExtension, CUDAExtension

    sources = glob("src/**/*.cpp", recursive=True) + glob("src/**/*.cu", recursive=True)
    setup(
        name="MultiScaleDeformableAttention",
        version="1.0",
        ext_modules=[CUDAExtension("MultiScaleDeformableAttention", sources)],
        cmdclass={"build_ext": BuildExtension},
    )
