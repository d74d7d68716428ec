"""Where settings come from, and which win."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelagent.settings import SettingsError, load_settings


def write(folder: Path, text: str) -> None:
    (folder / "kernelagent.toml").write_text(text)


def test_options_beat_variables_beat_the_file_beats_defaults(tmp_path: Path) -> None:
    write(tmp_path, 'trials = 7\nseed = 1\nproposer = "search"\n')
    found = load_settings({"trials": 9}, {"KERNELAGENT_TRIALS": "8", "KERNELAGENT_SEED": "2"}, tmp_path)
    assert (found.trials, found.seed, found.proposer, found.repairs) == (9, 2, "search", 2)
    assert found.sources["trials"] == "option trials"
    assert found.sources["seed"] == "KERNELAGENT_SEED"
    assert found.sources["proposer"].endswith("kernelagent.toml")


def test_options_not_given_do_not_count(tmp_path: Path) -> None:
    assert load_settings({"trials": None}, {"KERNELAGENT_TRIALS": "8"}, tmp_path).trials == 8


def test_the_file_of_a_parent_folder_is_found(tmp_path: Path) -> None:
    write(tmp_path, 'home = "state"\n')
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    found = load_settings({}, {}, inner)
    assert found.home == tmp_path / "state"
    assert found.runs == tmp_path / "state" / "runs"


def test_home_moves(tmp_path: Path) -> None:
    found = load_settings({}, {"KERNELAGENT_HOME": str(tmp_path / "h")}, tmp_path)
    assert found.knowledge_base == tmp_path / "h" / "knowledge.db"


def test_home_is_absolute() -> None:
    """Workers run in folders of their own, where a relative path would be another one."""
    assert load_settings({}, {"KERNELAGENT_HOME": "here"}).home == Path.cwd() / "here"


def test_the_key_of_openai_is_taken_and_shown_nowhere(tmp_path: Path) -> None:
    found = load_settings({}, {"OPENAI_API_KEY": "sk-abcdef0123456789abcdef"}, tmp_path)
    assert found.api_key == "sk-abcdef0123456789abcdef"
    assert "abcdef" not in repr(found)
    assert "abcdef" not in str(found.public())
    assert found.public()["api_key_set"] is True


def test_our_own_key_variable_wins(tmp_path: Path) -> None:
    found = load_settings({}, {"OPENAI_API_KEY": "one", "KERNELAGENT_API_KEY": "two"}, tmp_path)
    assert found.api_key == "two"


def test_a_key_in_a_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 'api_key = "sk-secret-secret-secret"\n')
    with pytest.raises(SettingsError, match="keys do not belong in files") as refused:
        load_settings({}, {}, tmp_path)
    assert "sk-secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trails = 3", "unknown setting 'trails'"),
        ('trials = "many"', "'trials' must be a whole number"),
        ("trials = 2.5", "'trials' must be a whole number"),
        ("trials = -1", "must not be negative"),
        ("stream = 3", "'stream' must be true or false"),
        ("timeout_s = 0", "'timeout_s' must be positive"),
        ("minutes = nan", "'minutes'"),
        ("model = 4", "'model' must be a text"),
        ("trials = ", "kernelagent.toml"),
    ],
)
def test_mistakes_name_their_place(tmp_path: Path, text: str, words: str) -> None:
    write(tmp_path, text + "\n")
    with pytest.raises(SettingsError, match=words):
        load_settings({}, {}, tmp_path)


def test_the_nearest_name_is_offered(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({"trails": 3}, {}, tmp_path)
    assert refused.value.hint == "did you mean 'trials'?"


def test_whole_floats_are_whole_numbers(tmp_path: Path) -> None:
    assert load_settings({"trials": 3.0}, {}, tmp_path).trials == 3
    assert load_settings({}, {"KERNELAGENT_STREAM": "no", "KERNELAGENT_MINUTES": "1.5"}, tmp_path).minutes == 1.5
