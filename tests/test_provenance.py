"""The commit that a result names is that of this code, and "unchanged" is known, not hoped."""

import subprocess
from pathlib import Path

import pytest

from experiments import provenance


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of one commit, with the code in it as it would lie there."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "provenance.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "first")
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True)


def test_a_changed_file_of_the_code_is_told(checkout: Path):
    found = provenance.commit()
    assert found is not None
    assert len(found["commit"]) == 40
    assert not found["changed"]
    (checkout / "notes.py").write_text("")
    assert provenance.commit() == found
    (checkout / "experiments" / "new.py").write_text("")
    assert provenance.commit() == found | {"changed": True}
    assert provenance.short_commit() == found["commit"][:12] + "+"


def test_an_environment_in_a_checkout_of_something_else_has_no_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
):
    installed = checkout / ".venv" / "site-packages"
    (installed / "experiments").mkdir(parents=True)
    (installed / "experiments" / "provenance.py").write_text("")
    monkeypatch.setattr(provenance, "ROOT", installed)
    assert provenance.commit() is None
    assert provenance.short_commit() == ""


def test_what_git_does_not_answer_in_time_counts_as_changed(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
):
    ask = provenance._git
    monkeypatch.setattr(
        provenance, "_git", lambda *words: None if words[0] == "status" else ask(*words)
    )
    found = provenance.commit()
    assert found is not None
    assert found["changed"]
