"""Build the one extension, ``fastmesh._core``; all else is in pyproject.toml."""

from glob import glob

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

Options.warning_errors = True

# _core.pyx includes the others: setuptools must know them, or the sdist lacks them and changes to them go unseen.
core = Extension(
    "fastmesh._core", ["cext/_core.pyx"], depends=glob("cext/*.pyx"), extra_compile_args=["-O3", "-fwrapv"]
)

directives = {
    "language_level": 3,
    "auto_pickle": False,  # of what holds C pointers
    "autotestdict": False,  # the stub says all that is there
    # An attribute of a typed None raises instead of crashing; where every delivery comes by that is switched off again.
    "nonecheck": True,
    # Methods are the interpreter's own kind, which looks whose they are called on: Cython's does not.
    "binding": False,
    "embedsignature": True,  # which that kind has no other place for; stubtest reads it
    "embedsignature.format": "clinic",
}

setup(ext_modules=cythonize([core], compiler_directives=directives))
