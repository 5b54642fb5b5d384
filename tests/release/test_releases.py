"""Releases: one version everywhere, notes from the changelog, files that are what they say, checksums."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin import archive
from release import __main__ as commands
from release import artifacts, changelog, versions
from release.versions import PLACES, PROJECT, ReleaseError
from tfserving.contract import VERSION


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of every file that holds the version, and of the changelog."""
    for name in (*(place.file for place in PLACES), "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / name)
    monkeypatch.setattr(commands, "PROJECT", tmp_path)
    return tmp_path


# ---- the version ---------------------------------------------------------------------------------------------------


def test_the_version_is_the_same_in_every_place() -> None:
    assert versions.current() == VERSION


def test_no_other_file_repeats_the_version_where_a_tool_reads_it() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not in a git checkout")
    line = re.compile(rf"""^\s*["']?version["']?\s*[:=]\s*["']?{re.escape(VERSION)}["']?,?$""", re.MULTILINE | re.I)
    files = [name for name in done.stdout.split() if name.endswith((".toml", ".yaml", ".yml", ".json", ".py", ".cfg"))]
    repeated = {
        name
        for name in files
        if not name.startswith("tests/")
        and not name.endswith("package-lock.json")
        and line.search((PROJECT / name).read_text(encoding="utf-8"))
    }
    assert repeated <= {place.file for place in PLACES}, "new in the project: list it in release/versions.py"


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.file)
def test_a_place_that_differs_is_named_with_the_command_that_helps(place: versions.Place, project: Path) -> None:
    file = project / place.file
    text = file.read_text(encoding="utf-8")
    other = re.sub(place.pattern, lambda match: match[0].replace(match[1], "9.9.9"), text, flags=re.MULTILINE)
    file.write_text(other, encoding="utf-8")
    with pytest.raises(ReleaseError, match=r"make version VERSION=") as caught:
        versions.current(project)
    assert place.file in str(caught.value)


def test_one_command_writes_the_version_everywhere_and_makes_the_section(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = project / "CHANGELOG.md"
    log.write_text("# Changelog\n\n## Unreleased\n- New.\n\n## 0.1.0\n\n- First.\n", encoding="utf-8")
    assert commands.main(["version", "7.8.9"]) == 0
    assert set(versions.found(project).values()) == {"7.8.9"}
    assert versions.current(project) == "7.8.9"
    assert '"tf-serving-knowledge>=7.8,<7.9"' in (project / "sandbox/pyproject.toml").read_text(encoding="utf-8")
    assert changelog.notes(log.read_text(encoding="utf-8"), "7.8.9") == "- New."
    assert "CHANGELOG.md: written" in capsys.readouterr().out
    assert commands.main(["version", "7.8.9"]) == 0, "a second time changes nothing"
    assert "already" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["", "1", "1.2", "v1.2.3", "1.2.3-rc1", "01.2.3", "1.2.3.4", "1.2.3\n", "a.b.c"])
def test_what_is_no_version_changes_nothing(wrong: str, project: Path) -> None:
    before = versions.found(project)
    assert commands.main(["version", wrong]) == 1
    assert versions.found(project) == before


def test_a_place_that_lost_its_version_changes_nothing_elsewhere(project: Path) -> None:
    (project / "Pulumi.yaml").write_text("name: x\n", encoding="utf-8")
    with pytest.raises(ReleaseError, match=r"Pulumi\.yaml has 0 versions"):
        versions.write("7.8.9", project)
    assert "7.8.9" not in (project / "pyproject.toml").read_text(encoding="utf-8")


# ---- the notes -----------------------------------------------------------------------------------------------------

ENTRIES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n#"), min_size=1).map(str.strip), min_size=1
)


@given(new=ENTRIES.filter(all), old=ENTRIES.filter(all))
def test_a_cut_section_is_what_was_unreleased_and_the_old_ones_stay(new: list[str], old: list[str]) -> None:
    unreleased, first = ("\n".join(f"- {entry}" for entry in entries) for entries in (new, old))
    text = f"# Changelog\n\n## Unreleased\n{unreleased}\n\n## 0.1.0\n\n{first}\n"
    cut = changelog.cut(text, "0.2.0")
    assert changelog.section(cut, "Unreleased") == ""
    assert changelog.notes(cut, "0.2.0") == unreleased.strip()
    assert changelog.section(cut, "0.1.0") == first.strip()
    assert changelog.cut(cut, "0.2.0") == cut


def test_a_release_without_a_section_or_with_something_left_is_refused() -> None:
    with pytest.raises(ReleaseError, match=r"has no section '0\.2\.0'"):
        changelog.notes("## Unreleased\n\n## 0.1.0\n- a\n", "0.2.0")
    with pytest.raises(ReleaseError, match="under 'Unreleased'"):
        changelog.notes("## Unreleased\n- b\n\n## 0.1.0\n- a\n", "0.1.0")
    with pytest.raises(ReleaseError, match="take the next number"):
        changelog.cut("## Unreleased\n- b\n\n## 0.1.0\n- a\n", "0.1.0")


def test_the_changelog_of_the_project_has_a_section_for_its_version() -> None:
    text = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert changelog.section(text, VERSION)


# ---- the files -----------------------------------------------------------------------------------------------------


def wheel(file: Path, version: str) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.dist-info/METADATA", f"Name: a\nVersion: {version}\n")
    return file


def builder(project: Path, version: str, status: int = 0) -> artifacts.Run:
    """Builds what the real commands would, as far as a release looks at it."""

    def run(_: Sequence[str], __: Path) -> int:
        dist = project / "dist"
        dist.mkdir(exist_ok=True)
        wheel(dist / f"a-{version}-py3-none-any.whl", version)
        (dist / f"pulumi-resource-tfserving-v{version}-linux-amd64.tar.gz").write_bytes(b"archive")
        return status

    return run


def test_what_lay_in_the_directory_before_is_no_part_of_a_release(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "old-0.0.1.whl").touch()
    files = artifacts.build(tmp_path, builder(tmp_path, "0.2.0"))
    assert [file.name for file in files] == [
        "a-0.2.0-py3-none-any.whl",
        "pulumi-resource-tfserving-v0.2.0-linux-amd64.tar.gz",
    ]


def test_a_build_that_fails_or_makes_nothing_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="failed with exit status 2"):
        artifacts.build(tmp_path, builder(tmp_path, "0.2.0", status=2))
    with pytest.raises(ReleaseError, match="nothing was built"):
        artifacts.build(tmp_path, lambda _, __: 0)


def test_files_of_another_version_are_named(tmp_path: Path) -> None:
    good = wheel(tmp_path / "a-0.2.0.whl", "0.2.0")
    artifacts.check([good], "0.2.0")
    bad = wheel(tmp_path / "b-0.2.0.whl", "0.1.0")
    other = tmp_path / "c-0.1.0.tar.gz"
    other.touch()
    with pytest.raises(ReleaseError, match=re.escape("not of version 0.2.0: b-0.2.0.whl, c-0.1.0.tar.gz")):
        artifacts.check([good, bad, other], "0.2.0")


def test_checksums_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    if not shutil.which("sha256sum"):
        pytest.skip("sha256sum is not on PATH")
    (tmp_path / "a b").write_bytes(b"content")
    (tmp_path / "c").write_bytes(b"")
    (tmp_path / artifacts.CHECKSUMS).write_text(artifacts.checksums(artifacts.built(tmp_path)), encoding="utf-8")

    def verify() -> int:
        command = ["sha256sum", "--check", "--strict", artifacts.CHECKSUMS]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode

    assert verify() == 0
    (tmp_path / "c").write_bytes(b"changed")
    assert verify() != 0


def test_what_building_leaves_behind_is_in_no_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"LICENSE", "plugin/PulumiPlugin.yaml", "plugin/requirements.txt", "tfserving/a.py", "plugin/build.py"}
    left = {"tfserving/build/lib/tfserving/a.py", "tfserving/x.egg-info/PKG-INFO", "config/__pycache__/a.pyc"}
    for name in kept | left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(archive, "ROOT", tmp_path)
    packed = {name for name, _ in archive._files()}
    assert packed == kept | {"PulumiPlugin.yaml", "requirements.txt"}


# ---- the commands --------------------------------------------------------------------------------------------------


def test_a_dry_run_of_what_is_unreleased_says_what_is_missing_and_what_only_github_does(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(artifacts, "_run", builder(project, VERSION))
    (project / "CHANGELOG.md").write_text("## Unreleased\n- New.\n", encoding="utf-8")
    assert commands.main(["dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "make version VERSION=<next>" in printed
    assert all(each in printed for each in commands.ONLY_GITHUB)
    assert (project / "dist" / artifacts.NOTES).read_text(encoding="utf-8") == "- New.\n"
    sums = (project / "dist" / artifacts.CHECKSUMS).read_text(encoding="utf-8")
    assert sums == artifacts.checksums(artifacts.built(project / "dist"))
    assert all(line in printed for line in sums.splitlines())


def test_a_release_is_built_for_the_tag_of_its_version_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(artifacts, "_run", builder(project, VERSION))
    (project / "CHANGELOG.md").write_text(f"## Unreleased\n\n## {VERSION}\n\n- All.\n", encoding="utf-8")
    assert commands.main(["build", "--tag", "v9.9.9"]) == 1
    assert f"v{VERSION} is its tag" in capsys.readouterr().err
    assert not (project / "dist").exists()
    assert commands.main(["build", "--tag", f"v{VERSION}"]) == 0
    assert (project / "dist" / artifacts.NOTES).read_text(encoding="utf-8") == "- All.\n"
