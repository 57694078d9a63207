"""Build the one extension, ``fastmesh._core``; all else is in pyproject.toml."""

from glob import glob

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

Options.warning_errors = True

# _core.pyx includes the others: setuptools must know them, or the sdist lacks them and changes to them go unseen.
core = Extension("fastmesh._core", ["cext/_core.pyx"], depends=glob("cext/*.pyx"), extra_compile_args=["-O3"])

# No pickling of what holds C pointers, no doctests table: the stub says all that is there.
directives = {"language_level": 3, "auto_pickle": False, "autotestdict": False}

setup(ext_modules=cythonize([core], compiler_directives=directives))
