"""Typed settings from the environment (``GANVAS_*``, ``DISCORD_TOKEN``) and ``ganvas.toml``."""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from engine.errors import GanvasError

PREFIX = "GANVAS_"


class ConfigError(GanvasError, ValueError):
    """A setting is unknown, has a wrong type or names something that is not there."""

    code = "config"
    status = 400


class Settings(BaseSettings):
    """What the host decides once, at start.  What a guild decides for itself is in :class:`bot.studio.GuildSettings`.

    A name here is the key in ``ganvas.toml``; in the environment it is upper case with ``GANVAS_`` before it.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    # Discord; without a token the web studio runs alone
    discord_token: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("DISCORD_TOKEN", "GANVAS_DISCORD_TOKEN", "discord_token")
    )
    discord_hosts: tuple[int, ...] = ()  # ids of users who decide about the painter, beside the application's owner
    discord_dev_guild: int | None = None  # commands are synced to this guild only, at once, while developing
    discord_api: str | None = None  # another address of Discord, for tests: http://127.0.0.1:9999

    # The web studio
    web_host: str = "127.0.0.1"
    web_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    web_token: SecretStr | None = None  # required beyond loopback
    web_public: bool = False  # whoever finds the web studio may look at its gallery and diary without logging in
    public_url: str | None = None  # how others reach the web studio, for links from Discord and in feeds

    # Folders
    data: Path = Path("data/var")  # ganvas.db, artworks/, nights/, paintings/
    models: Path = Path("models")

    # The engine: a child process unless a URL is given
    engine_url: str | None = None
    engine_token: SecretStr | None = None
    engine_parallel: Annotated[int, Field(ge=1, le=256)] = 16  # jobs the engine holds at once, half if long ones
    job_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = 15  # a job that takes longer fails

    # Limits, as a guild finds them before it changes its own
    member_running: Annotated[int, Field(ge=1, le=64)] = 2
    member_waiting: Annotated[int, Field(ge=1, le=1000)] = 10
    guild_running: Annotated[int, Field(ge=1, le=256)] = 16
    guild_waiting: Annotated[int, Field(ge=1, le=10_000)] = 200
    max_upload_bytes: Annotated[int, Field(ge=100_000, le=2**30)] = 25 * 2**20
    max_side: Annotated[int, Field(ge=256, le=4096)] = 4096  # px, long side of anything asked for

    # The house
    language: Literal["en", "de", "es", "ja"] = "en"
    nudes: bool = False  # the nude-painting genre; guilds must allow it too, and then only in age-restricted channels
    gallery_threshold: Annotated[int, Field(ge=1, le=1000)] = 3  # ups minus downs that lead into the gallery channel
    photo_hours: Annotated[float, Field(ge=0, le=30 * 24)] = 24  # a photo stays for its sender; 0: not at all
    vote_event_days: Annotated[int, Field(ge=1, le=3650)] = 400  # how long the log of votes is kept
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    # Nights
    nights: bool = True
    night_cron: str = "0 3 * * *"  # minute hour day month weekday
    night_timezone: str = "UTC"
    night_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = 90  # of learning, at most; pauses do not count
    night_threads: Annotated[int, Field(ge=0, le=256)] = 0  # of the lesson; 0 is half of the processors
    night_posts: bool = False  # tell of each night in the gallery channels
    canary_share: Annotated[float, Field(gt=0, le=0.5)] = 0.2  # of members whose /paint is answered by a candidate
    canary_votes: Annotated[int, Field(ge=4, le=100_000)] = 100  # on each side, before it can be promoted by votes
    canary_days: Annotated[float, Field(gt=0, le=90)] = 3  # a trial ends then at the latest

    @field_validator("night_timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{name!r} is no time zone; an example is Europe/Berlin") from error
        return name

    @field_validator("night_cron")
    @classmethod
    def _cron(cls, expression: str) -> str:
        try:
            CronTrigger.from_crontab(expression, timezone="UTC")
        except ValueError as error:
            raise ValueError(f"{expression!r} is no cron expression ({error}); an example is '0 3 * * *'") from error
        return expression

    @model_validator(mode="after")
    def _token_beyond_loopback(self) -> Settings:
        if not self.loopback and not (self.web_token and self.web_token.get_secret_value()):
            raise ValueError(
                f"web_host is {self.web_host!r}, which others can reach: set web_token (GANVAS_WEB_TOKEN) to a long "
                "random text, or keep web_host at 127.0.0.1"
            )
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the web studio."""
        if self.web_host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.web_host).is_loopback
        except ValueError:
            return False

    @property
    def url(self) -> str:
        """Where people find the web studio."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = f"[{self.web_host}]" if ":" in self.web_host else self.web_host
        return f"http://{host}:{self.web_port}"

    def check_folders(self) -> None:
        """Make the data folder and look that the models are there.

        Raises:
            ConfigError: a folder is missing or cannot be written to.
        """
        try:
            self.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"The data folder {self.data} cannot be made: {error.strerror}.") from error
        if not os.access(self.data, os.W_OK | os.X_OK):
            raise ConfigError(f"The data folder {self.data} cannot be written to.")
        if self.engine_url is None and not self.models.is_dir():
            raise ConfigError(f"The models folder {self.models} is missing; set models (GANVAS_MODELS) to where it is.")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        """The environment wins over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Args:
        path: the TOML file; None is ``$GANVAS_CONFIG``, or ``ganvas.toml`` here if there is one.
        environ: for names that must be known; None is the process's own environment.

    Raises:
        ConfigError: an unknown key, a wrong type or value, or a file that is no TOML.
    """
    environ = os.environ if environ is None else environ
    named = path or (Path(environ["GANVAS_CONFIG"]) if environ.get("GANVAS_CONFIG") else None)
    if named is not None and not named.is_file():
        raise ConfigError(f"The settings file {named} does not exist.")
    for name in environ:
        key = name.removeprefix(PREFIX).lower()
        if name.startswith(PREFIX) and name != "GANVAS_CONFIG" and key not in Settings.model_fields:
            raise ConfigError(f"There is no setting {name}; {_nearest(key, PREFIX)}")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=named or Path("ganvas.toml"))

    try:
        return FromFile()
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{named or 'ganvas.toml'} is no TOML: {error}.") from error
    except ValidationError as error:
        raise ConfigError(_sentence(error.errors(include_url=False)[0])) from error


def _sentence(problem: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"There is no setting {key!r}; {_nearest(key)}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"The setting {key} is wrong: {message}." if key else f"{message}."


def _nearest(key: str, prefix: str = "") -> str:
    near = difflib.get_close_matches(key, Settings.model_fields, n=1)
    spell = (lambda name: prefix + name.upper()) if prefix else str
    if near:
        return f"did you mean {spell(near[0])}?"
    return f"there are {', '.join(spell(name) for name in Settings.model_fields)}."
