"""What every test may ask for: the command line in this process, and the real data."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# One thread a process: tests run in as many processes as there are processors, and threads that
# wait for each other across them make a test up to 20 times slower.
os.environ["OMP_NUM_THREADS"] = "1"

from dsnn.cli import run

if TYPE_CHECKING:
    from certificate_cases import Written
    from playwright.sync_api import Browser

REGIMES = {
    "non_expansive": "non-expansive",
    "switch_flexible": "switch-flexible",
    "switch_prescribed": "switch-prescribed",
}


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real CIFAR data and published weights; skips where there is none."""
    folder = os.environ.get("DSNN_DATA")
    if not folder or not (Path(folder) / "published").is_dir():
        pytest.skip("DSNN_DATA is not set to a folder with CIFAR-10 and published weights")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What an audit had finished before is that of this session, never of the user."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("verification.store.user_cache_path", lambda name: folder / name)
        yield


@pytest.fixture
def dsnn(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`dsnn("audit", path, ...)` -> (exit code, stdout, stderr), run in this process."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def refused(dsnn: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """`refused("audit", ...)` asserts exit 2 with one line on stderr and returns that line."""

    def call(*arguments: object) -> str:
        code, out, error = dsnn(*arguments)
        assert code == 2, (code, out, error)
        assert out == ""
        lines = error.strip().splitlines()
        assert len(lines) == 1, error
        assert "Traceback" not in error
        return lines[0]

    return call


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a narrow network that classifies generated images."""
    from fitted_networks import fitted

    folder = tmp_path_factory.mktemp("weights")
    return fitted("non-expansive", 10, "generated", folder / "net.safetensors")


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> "Written":
    """A certificate, and the weights it is about."""
    from certificate_cases import certified

    return certified(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A real Chromium, the system's where there is one; skips where none is installed."""
    from playwright.sync_api import Error, sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    system = next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=system, args=["--no-sandbox"])
        except Error as error:
            if system is None and "Executable doesn't exist" in str(error):
                pytest.skip("no Chromium is installed: apt-get install chromium")
            raise
        yield browser
        browser.close()
