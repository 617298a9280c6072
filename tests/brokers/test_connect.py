"""Finding brokers by scheme: those shipped, those of third parties, and those whose library is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from brokers import connect
from brokers.connect import client_library, schemes
from schemas.errors import ConfigurationError
from tests.brokers.kit import ROOT


def test_shipped_brokers_are_found_by_folder() -> None:
    assert "local" in schemes()
    assert connect("local:dir").url == "local:dir"


def test_an_unknown_scheme_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'local'"):
        connect("locla:dir")
    with pytest.raises(ConfigurationError, match=r"one of .*local"):
        connect("zzzzzz://host")


def test_a_wrong_option_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'retention_bytes'"):
        connect(f"local:{tmp_path}/log?retention_byte=5")
    with pytest.raises(ConfigurationError, match="partitions must be 1 to 1024"):
        connect(f"local:{tmp_path}/log?partitions=0")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_client_library_is_named_with_its_pip_install() -> None:
    with pytest.raises(ConfigurationError) as caught:
        client_library("no_such_client_library", extra="kafka")
    assert "no_such_client_library" in caught.value.message
    assert caught.value.remedy == "pip install 'iotcloud[kafka]'"


def test_a_third_party_joins_by_an_entry_point(tmp_path: Path) -> None:
    # A distribution as pip would install it: a module and its metadata.
    (tmp_path / "their_broker.py").write_text(
        "from brokers.local.broker import LocalBroker\n"
        "def open_broker(url):\n"
        "    return LocalBroker(url.path, url='theirs at ' + url.path)\n"
    )
    metadata = tmp_path / "their_broker-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-broker\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[iotcloud.brokers]\ntheirs = their_broker:open_broker\n")
    code = "from brokers.connect import *; print(connect('theirs:dir').url, 'theirs' in schemes())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stderr, done.stdout) == ("", "theirs at dir True\n")


def test_finding_a_broker_imports_no_client_library() -> None:
    code = (
        "import sys; from brokers.connect import schemes; schemes();"
        "print(sorted({'kafka', 'pika', 'stomp', 'pymemcache', 'paho', 'google.cloud.pubsub', 'sqlite3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
