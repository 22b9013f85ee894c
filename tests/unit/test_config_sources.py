from pathlib import Path

import pytest

from server import config_sources
from server.config import Config
from server.errors import ConfigurationError


def load(
    file: Path | None = None,
    environment: dict[str, str] | None = None,
    flags: dict[tuple[str, str], object] | None = None,
) -> Config:
    return config_sources.load(file=file, environment=environment or {}, flags=flags or {})


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "firstlight.toml"
    file.write_text(text)
    return file


def test_nothing_given_is_a_whole_configuration() -> None:
    assert load() == Config()


def test_flags_win_over_environment_and_environment_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, '[server]\nworkers = 2\nhttp = "127.0.0.1:1"\nlwm2m_uri = "coaps://a"\n')
    loaded = load(
        file,
        {"FIRSTLIGHT_SERVER_WORKERS": "3", "FIRSTLIGHT_SERVER_HTTP": "127.0.0.1:2"},
        {("server", "workers"): 4, ("server", "http"): None},
    )
    assert (loaded.server.workers, loaded.server.http, loaded.server.lwm2m_uri) == (4, "127.0.0.1:2", "coaps://a")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nworker = 2\n", "did you mean workers?"),
        ("[servr]\nworkers = 2\n", "did you mean server?"),
        ("server = 1\n", "must be a table"),
        ("[server]\nworkers = 0\n", "between 1 and 64, you gave 0"),
        ("[server]\nworkers = 1.5\n", "whole number"),
        ("[server]\nworkers = true\n", "whole number"),
        ("[server]\nsingle_process = 1\n", "true or false"),
        ("[server]\ncoaps = 5684\n", "list of texts"),
        ("[server]\nhttp = 8080\n", "must be a text"),
        ("[server]\ndata_dir = 8080\n", "must be a path"),
        ('[log]\nformat = "xml"\n', "one of console, json"),
        ('[secrets]\nmaster_key = "00"\n', "must not stand in a file"),
        ("[server\n", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_names_the_key_and_the_rule(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigurationError, match=r"firstlight\.toml") as raised:
        load(file)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value).strip()


def test_a_missing_file_says_so() -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(Path("nowhere.toml"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FIRSTLIGHT_SERVER_WORKRES", "2", "did you mean workers?"),
        ("FIRSTLIGHT_NONSENSE", "2", "unknown"),
        ("FIRSTLIGHT_SERVER_WORKERS", "many", "whole number"),
        ("FIRSTLIGHT_SERVER_SINGLE_PROCESS", "perhaps", "true or false"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=name) as raised:
        load(environment={name: value})
    assert said in str(raised.value)


def test_lists_and_switches_come_from_the_environment_too() -> None:
    loaded = load(
        environment={
            "FIRSTLIGHT_SERVER_COAPS": "127.0.0.1:5684, [::1]:5684",
            "FIRSTLIGHT_SERVER_SINGLE_PROCESS": "yes",
            "FIRSTLIGHT_EMBEDDED_CA_VALIDITY_DAYS": "7",
        }
    )
    assert loaded.server.coaps == ("127.0.0.1:5684", "[::1]:5684")
    assert loaded.server.single_process is True
    assert loaded.embedded_ca.validity_days == 7


def test_a_worker_gets_the_very_same_configuration() -> None:
    config = load(
        environment={"FIRSTLIGHT_SECRETS_MASTER_KEY": "ab" * 32, "FIRSTLIGHT_DATABASE_URL": "postgresql://u:p@h/d"},
        flags={("server", "data_dir"): Path("/somewhere")},
    )
    assert config_sources.from_plain(config_sources.as_plain(config)) == config


def test_no_secret_shows_in_the_repr() -> None:
    config = load(
        environment={"FIRSTLIGHT_SECRETS_MASTER_KEY": "cafe" * 16, "FIRSTLIGHT_DATABASE_URL": "postgresql://u:hush@h/d"}
    )
    assert "cafe" not in repr(config)
    assert "hush" not in repr(config)


# -- two ways to say one thing --


@pytest.mark.parametrize(
    ("text", "environment", "flags", "believed"),
    [
        (
            "[database]\nurl_file = 'F'\n",
            {},
            {("database", "url"): "postgresql://here/flag"},
            ("postgresql://here/flag", None),
        ),
        ("[database]\nurl_file = 'F'\n", {"FIRSTLIGHT_DATABASE_URL": "U"}, {}, ("U", None)),
        ("[database]\nurl = 'U'\n", {"FIRSTLIGHT_DATABASE_URL_FILE": "F"}, {}, (None, Path("F"))),
        ("[database]\nurl = 'U'\n", {}, {("database", "url"): None}, ("U", None)),
    ],
)
def test_a_later_source_takes_the_place_of_what_says_the_same_in_another_way(
    tmp_path: Path,
    text: str,
    environment: dict[str, str],
    flags: dict[tuple[str, str], object],
    believed: tuple[str | None, Path | None],
) -> None:
    """A command that names a database must not work on the one of the file."""
    file = tmp_path / "firstlight.toml"
    file.write_text(text)
    database = load(file=file, environment=environment, flags=flags).database
    assert (database.url, database.url_file) == believed


def test_a_master_key_file_of_the_command_line_takes_the_place_of_the_environments_key() -> None:
    flags: dict[tuple[str, str], object] = {("secrets", "master_key_file"): "new.key"}
    secrets = load(file=None, environment={"FIRSTLIGHT_SECRETS_MASTER_KEY": "00"}, flags=flags).secrets
    assert (secrets.master_key, secrets.master_key_file) == (None, Path("new.key"))


def test_one_source_that_says_both_is_refused_without_what_it_says() -> None:
    environment = {"FIRSTLIGHT_DATABASE_URL": "postgresql://u:CANARY@db/x", "FIRSTLIGHT_DATABASE_URL_FILE": "F"}
    with pytest.raises(ConfigurationError, match=r"FIRSTLIGHT_DATABASE_URL.*give one of them") as refused:
        load(file=None, environment=environment, flags={})
    assert "CANARY" not in str(refused.value)
