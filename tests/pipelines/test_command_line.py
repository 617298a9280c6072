"""The command line: what is wrong is refused before anything runs, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokers import Message, connect
from pipelines.options import parse_options
from pipelines.run import main
from pipelines.sources.discovery import Source
from schemas.errors import ConfigurationError

READ = ("realtime", "--source", "local:/somewhere/site.app.temperature")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    text = capsys.readouterr().err
    assert text.startswith("Error: ")
    return text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((*READ, "--sinks", "sqlite:x"), "did you mean --sink?"),
        ((*READ, "--untill-end"), "did you mean --until-end?"),
        ((*READ, "--direct_num_worker=3"), "did you mean --direct_num_workers?"),
        ((*READ, "--runner=DirectRunner"), "no event-time window ever fires"),
        ((*READ, "--runner=PrismRuner"), "did you mean PrismRunner?"),
        ((*READ, "--prism_location", "/no/such/prism"), "no program is there"),
        ((*READ, "--pipeline", "/no/such/file.toml"), "cannot be read"),
        ((*READ, "surplus"), "unexpected argument 'surplus'"),
        ((*READ, "--master", "http://localhost:1"), "both --source and --master"),
        ((*READ, "--source", READ[-1]), "given twice"),
        (("realtime",), "nothing to read"),
        (("archive", *READ[1:]), "needs --archive"),
        (("realtme", *READ[1:]), "invalid choice"),
        (("realtime", "--source", "local:"), "names no topic"),
    ],
)
def test_what_is_wrong_is_refused_with_the_reason(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    assert expected in refused(capsys, *arguments)


def test_what_beam_understands_passes_through() -> None:
    options = parse_options([*READ, "--direct_num_workers=3", "--job_name", "mine", "--streaming"])
    assert options.beam == ("--direct_num_workers=3", "--job_name", "mine", "--streaming")
    assert options.sources == (Source("local:/somewhere", ("site.app.temperature",)),)


def test_several_topics_and_brokers_may_be_named() -> None:
    options = parse_options(["realtime", "--source", "local:/a/x,y", "--source", "local:/b/z"])
    assert options.sources == (Source("local:/a", ("x", "y")), Source("local:/b", ("z",)))


def test_a_directory_stands_for_a_journal_of_files() -> None:
    assert parse_options([*READ, "--archive", "out/archive"]).archive == "files:out/archive"
    assert parse_options([*READ, "--archive", "files:out/archive"]).archive == "files:out/archive"


def test_prism_that_is_nowhere_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = refused(capsys, *READ)
    assert "was not found" in text
    assert "go install" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[windows.a]\nsiz = '5m'", "did you mean 'size'?"),
        ("[windows.a]\nsize = '5 parsecs'", "is not a duration"),
        ("[windows.a]\nsize = '5m'\nkind = 'sliding'", "needs 'every'"),
        ("[windows.a]\nsize = '5m'\nevery = '1m'", "has no 'every'"),
        ("[windows.a]\nsize = '5m'\n[windows.b]\nsize = '300s'", "are both 300 s long"),
        ("[windows.a]\nsize = '1m'\nevery = '5m'\nkind = 'sliding'", "leaves events out"),
        ("[windows.a]\nsize = '1d'\nevery = '1s'\nkind = 'sliding'", "would fall into 86400 windows"),
        ("schemas = ['absent.avsc']", "absent.avsc"),
        ("shards = 0", "at least 1"),
    ],
)
def test_a_pipelines_file_is_checked(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "pipeline.toml"
    file.write_text(text)
    assert main([*READ, "--pipeline", str(file), "--prism_location", "/bin/true"]) in (1, 2)
    assert expected in capsys.readouterr().err


def test_a_dry_run_prints_the_plan_and_runs_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    connect(f"local:{tmp_path}/log").publisher().publish([Message("site.app.temperature", "g", b"x")])
    file = tmp_path / "pipeline.toml"
    file.write_text("[windows.a]\nsize = '5m'\n[windows.b]\nsize = '30m'\nkind = 'sliding'\nevery = '5m'")
    arguments = ["realtime", "--source", f"local:{tmp_path}/log/site.app.temperature,site.app.later", "--dry-run"]
    arguments += ["--prism_location", "/bin/true", "--pipeline", str(file), "--state", str(tmp_path / "state")]
    assert main([*arguments, "--sink", f"sqlite:{tmp_path}/results.sqlite"]) == 0
    plan = capsys.readouterr().out
    assert "site.app.temperature" in plan
    assert "1 partitions, 1 records" in plan
    assert "not there yet, will be waited for" in plan
    assert "b: 1800 s every 300 s" in plan
    assert "can be written" in plan
    assert "iotcloud.Reading" in plan
    assert not (tmp_path / "state").exists()
    assert main([*arguments, "--sink", f"sqlite:{file}/results.sqlite"]) == 1


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "--until-end" in capsys.readouterr().out


def test_a_state_directory_belongs_to_one_job(tmp_path: Path) -> None:
    from pipelines.state import JobState

    first = JobState(tmp_path / "state")
    with pytest.raises(ConfigurationError, match="another job is using it"):
        JobState(tmp_path / "state")
    first.close()
    JobState(tmp_path / "state").close()
