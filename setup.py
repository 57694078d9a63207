"""Build the one extension, ``fastmesh._core``; all else is in pyproject.toml."""

from glob import glob

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

Options.warning_errors = True

# _core.pyx includes the others: setuptools must know them, or they are missing from the sdist and changes to them go unseen.
core = Extension("fastmesh._core", ["cext/_core.pyx"], depends=glob("cext/*.pyx"), extra_compile_args=["-O3"])

setup(ext_modules=cythonize([core], language_level=3))
