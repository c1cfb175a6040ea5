from pathlib import Path

import pytest

from bot.config import ConfigError, Settings, load


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DISCORD_TOKEN", "GANVAS_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_without_any_settings_it_is_a_web_studio_for_this_machine_only() -> None:
    settings = load()
    assert (settings.url, settings.loopback, settings.discord_token) == ("http://127.0.0.1:8080", True, None)


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("ganvas.toml").write_text('web_port = 9000\nlanguage = "de"\n')
    monkeypatch.setenv("GANVAS_WEB_PORT", "9001")
    settings = load()
    assert (settings.web_port, settings.language) == (9001, "de")


def test_the_discord_token_has_its_usual_name_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "s3cret")
    settings = load()
    assert settings.discord_token is not None and settings.discord_token.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("web_prot = 1", r"There is no setting 'web_prot'; did you mean web_port\?"),
        ('web_port = "many"', "The setting web_port is wrong: .*integer"),
        ("web_port = 70000", "web_port is wrong: .*65535"),
        ('web_host = "0.0.0.0"', "set web_token"),
        ('night_cron = "every night"', "no cron expression"),
        ('night_timezone = "Mars/Olympus"', "no time zone"),
        ("web_port = ", "is no TOML"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(text: str, sentence: str) -> None:
    Path("ganvas.toml").write_text(text)
    with pytest.raises(ConfigError, match=sentence) as caught:
        load()
    assert "\n" not in str(caught.value)


def test_a_mistyped_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANVAS_WEBPORT", "1")
    with pytest.raises(ConfigError, match=r"no setting GANVAS_WEBPORT; did you mean GANVAS_WEB_PORT\?"):
        load()


def test_a_wrong_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANVAS_NIGHT_MINUTES", "hunter2")
    with pytest.raises(ConfigError) as caught:
        load()
    assert "hunter2" not in str(caught.value)


def test_beyond_loopback_a_token_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANVAS_WEB_HOST", "::")
    monkeypatch.setenv("GANVAS_WEB_TOKEN", "long and random")
    assert load().url == "http://[::]:8080"


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"models folder .*nowhere is missing"):
        Settings(data=tmp_path / "var", models=tmp_path / "nowhere").check_folders()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        Settings(data=tmp_path / "file" / "var").check_folders()
