"""The wheel, installed outside the clone, has its commands and its data."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DATA = {
    "dsnn/zoo/weights/index.json",
    "paper_repro/data/published_robustness.csv",
    "paper_repro/results/deviations.json",
    "paper_repro/templates/report.html",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", folder, ROOT)
    subprocess.run([sys.executable, *map(str, build)], check=True, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that sees this one's libraries, and the wheel instead of the clone."""
    folder = tmp_path_factory.mktemp("outside") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = ("--python", python, "install", "--no-deps", "-q", wheel)
    subprocess.run([sys.executable, "-m", "pip", *map(str, install)], check=True)
    libraries = [path for path in sys.path if Path(path).name == "site-packages"]
    (site,) = folder.glob("lib/python*/site-packages")
    # .pth files of the folders named here are not read, so that the clone stays out of sight.
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n", encoding="utf-8")
    return python


def run(python: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), *arguments],
        cwd=python.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def dsnn(python: Path, *arguments: str) -> str:
    return run(python.parent / "dsnn", *arguments)


def test_the_package_that_runs_is_the_installed_one(python: Path) -> None:
    places = run(python, "-c", "import dsnn, theory; print(dsnn.__file__, theory.__file__)").split()
    assert all(Path(place).is_relative_to(python.parent.parent) for place in places)


def test_the_wheel_has_the_data_and_nothing_of_the_tests(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    packages = ("dsnn", "theory", "verification", "experiments", "paper_repro")
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard", *packages)
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(names) >= DATA
    assert set(files.stdout.split()) == {name for name in names if ".dist-info/" not in name}


def test_commands(python: Path) -> None:
    assert "audit" in dsnn(python, "--help")
    assert "T7-contractive-euler" in dsnn(python, "theory", "list")
    assert "auc-cifar10" in dsnn(python, "reproduce", "--status")
    assert "T7-contractive-euler" in dsnn(
        python, "verify", "T7-contractive-euler", "--profile", "quick"
    )


def test_a_figure_from_the_data_in_the_wheel(python: Path, tmp_path: Path) -> None:
    dsnn(python, "reproduce", "auc-cifar10", "--out", str(tmp_path))
    assert list(tmp_path.rglob("auc-cifar10.pdf"))


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["version"] == project["version"]
    assert f"## {project['version']}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert (ROOT / "docs" / f"release-{project['version']}.md").is_file()
