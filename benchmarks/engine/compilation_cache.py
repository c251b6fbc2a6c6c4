"""The persistent compilation cache, so that a program is compiled only once."""

import hashlib
import os
import sys
from pathlib import Path

import jax

from benchmarks import provenance
from benchmarks.errors import UserError

DEFAULT = Path(__file__).resolve().parent.parent / ".cache"


def enable_compilation_cache(root: Path = DEFAULT) -> Path:
    """Makes JAX store compiled programs in a folder below `root`; returns the folder.

    The folder is private, because programs in it are executed. Its name contains the
    JAX version and the processor, so that machines can share a home directory.

    Raises:
      UserError: The folder cannot be made, or belongs to another user.
    """
    machine = provenance.machine(jax.devices()[0])
    text = f"{machine['cpu']} {machine['cores']} {sys.version_info[:2]}"
    name = f"jax-{jax.__version__}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    folder = root / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            msg = f"the compilation cache {folder} belongs to another user: remove it."
            raise UserError(msg)
        root.chmod(0o700)
        folder.chmod(0o700)
    except OSError as error:
        msg = f"the compilation cache {folder} cannot be used: {error.strerror}."
        raise UserError(msg) from error
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
