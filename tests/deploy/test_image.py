"""The image's root file system, made in an empty directory from a program that was built before, and
the program in it, with nothing else in sight. (The image itself needs a container engine.)"""

import os
import re
import shutil
import stat
import subprocess
import tomllib

import pytest

from sidecar import PROGRAM
from tools import DEPLOY, ROOT, run

BUILD = DEPLOY / "build.sh"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The root file system."""
    directory = tmp_path_factory.mktemp("image")
    assert "finds its libraries" in run(BUILD, "--binary", PROGRAM, "--try", directory)
    yield directory
    # It is large.
    shutil.rmtree(directory)


def inside(image, *arguments, **more):
    """Runs the program in the image as its user."""
    if os.geteuid() == 0:
        within = ["chroot", "--userspec=4100:4100", str(image)]
    else:
        within = ["unshare", "--user", f"--root={image}"]
    command = [*within, "/usr/local/bin/tollgate", *arguments]
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(command, env=path, capture_output=True, text=True, timeout=120, **more)


def test_nothing_is_in_it_but_the_program_and_what_it_needs(image):
    files = {str(path.relative_to(image)) for path in image.rglob("*") if path.is_file()}
    libraries = {name for name in files if name.startswith(("lib", "usr/lib"))}
    assert any("ld-linux" in name for name in libraries) and len(libraries) <= 6, libraries
    rest = files - libraries - {"etc/ssl/certs/ca-certificates.crt"}
    assert rest == {
        "etc/group",
        "etc/nsswitch.conf",
        "etc/passwd",
        "usr/local/bin/tollgate",
        "usr/share/doc/tollgate/LICENSE",
    }


def test_its_user_owns_its_data_and_nothing_else(image):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    owned = [str(p.relative_to(image)) for p in image.rglob("*") if p.stat().st_uid != 0]
    assert owned == ["var/lib/tollgate"]
    writable = [
        str(path.relative_to(image))
        for path in image.rglob("*")
        if not path.is_symlink() and path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ]
    assert writable == ["tmp"]


def test_calls_are_metered_and_stopped_in_it(image):
    shown = inside(image, "demo")
    assert shown.returncode == 0, shown.stderr
    assert "budget" in shown.stdout


def test_a_directory_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    assert "not empty" in run(BUILD, "--binary", PROGRAM, tmp_path, fails=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_is_no_program_is_refused(tmp_path):
    told = run(BUILD, "--binary", tmp_path / "none", tmp_path / "image", fails=True)
    assert "is no program" in told


def test_the_dockerfile_names_the_toolchain_and_the_version_of_this_tree():
    channel = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    assert f"FROM rust:{channel}-slim AS build" in DOCKERFILE
    assert f"ENV RUSTUP_TOOLCHAIN={channel}" in DOCKERFILE
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    told = re.findall(r'image\.version="(.*)"', DOCKERFILE)
    assert told == [version, version]


def test_what_the_dockerfile_is_given_is_a_whole_tree(tmp_path):
    """Cargo accepts the manifest with the files that the build may see, and the program compiles
    from them as far as files that it includes go."""
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for name in (line[1:] for line in allowed if line.startswith("!")):
        there = tmp_path / name
        there.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, there)
        else:
            shutil.copy(ROOT / name, there)
    run("cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version=1", cwd=tmp_path)
    missing = []
    for source in (tmp_path / "src").rglob("*.rs"):
        code = source.read_text().split("#[cfg(test)]\nmod tests")[0]
        for included in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', code):
            if not (source.parent / included).exists():
                missing.append(f"{source.relative_to(tmp_path)}: {included}")
    assert not missing
    assert os.access(tmp_path / "deploy/build.sh", os.X_OK)
