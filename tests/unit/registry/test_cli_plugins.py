"""`i2 plugins`: its output for people and for programs, and its exit codes."""

from __future__ import annotations

import json

import pytest

from i2core.cli.main import run
from i2core.testing.site import Site

_FORGETFUL = """
import attrs
from contextlib import asynccontextmanager
from i2core.api import hookimpl
from i2core.testing import XOR, XorCodec

class Forgetful(XorCodec):
    def decode(self, data, *, seq, header, limit):
        return b""

@asynccontextmanager
async def open_forgetful(config, context):
    yield Forgetful()

@hookimpl
def i2_codecs():
    return [attrs.evolve(XOR, name="forgetful", open=open_forgetful), XOR]
"""

_CHOOSY = """
import attrs
from contextlib import asynccontextmanager
from i2core.api import hookimpl
from i2core.testing import XOR, XorCodec

@attrs.frozen
class Config:
    level: int = 1
    word: str = ""

@asynccontextmanager
async def open_choosy(config, context):
    assert (config.level, config.word) == (5, "two words"), config
    yield XorCodec()

@hookimpl
def i2_codecs():
    return [attrs.evolve(XOR, name="choosy", config=Config, open=open_choosy)]
"""


def test_list_shows_drivers_on_stdout_and_problems_on_stderr(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("good", version="7.8")
    site.add("bad", "import no_such_library")
    assert run(["plugins", "list"]) == 0
    out, err = capsys.readouterr()
    assert ["codec", "good", "inverts every bit, for tests", "good", "dist-good 7.8"] in [
        [cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.splitlines()
    ]
    assert "i2: plugin bad (dist-bad 1.0): cannot be imported: ModuleNotFoundError" in err


def test_list_as_json(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("good", version="7.8")
    site.add("bad", "import no_such_library")
    assert run(["plugins", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {
        "name": "good",
        "distribution": "dist-good",
        "version": "7.8",
        "drivers": [{"kind": "codec", "name": "good", "summary": "inverts every bit, for tests"}],
    } in listed["plugins"]
    assert "good" in listed["drivers"]["codec"]
    assert {
        "plugin": "bad",
        "distribution": "dist-bad",
        "version": "1.0",
        "what": "cannot be imported: ModuleNotFoundError: No module named 'no_such_library'",
        "driver": "",
    } in listed["problems"]


def test_check_of_a_good_plugin(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("good")
    assert run(["plugins", "check", "good"]) == 0
    assert capsys.readouterr().out == "codec good: good\n"


def test_check_by_the_name_of_the_distribution_or_of_a_driver(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("choosy", _CHOOSY.replace('name="choosy"', 'name="picky"'))
    site.add("bad", "import no_such_library")
    for name in ("dist-choosy", "picky"):
        assert run(["plugins", "check", name, "-o", "level=5", "-o", "word=two words"]) == 0
        assert capsys.readouterr().out == "codec picky: good\n"
    assert run(["plugins", "check", "dist-bad"]) == 1
    assert "no_such_library" in capsys.readouterr().out


def test_check_names_each_driver_and_what_is_wrong(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("forgetful", _FORGETFUL)
    assert run(["plugins", "check", "forgetful", "--json"]) == 1
    checked = json.loads(capsys.readouterr().out)
    assert checked["good"] is False
    assert [(driver["name"], driver["good"]) for driver in checked["drivers"]] == [("forgetful", False), ("xor", True)]
    assert "returned other bytes than were encoded" in checked["drivers"][0]["cause"]


def test_check_of_a_plugin_that_cannot_be_imported(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("bad", "import no_such_library")
    assert run(["plugins", "check", "bad"]) == 1
    assert "no_such_library" in capsys.readouterr().out


def test_check_of_what_is_not_installed(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("good")
    assert run(["plugins", "check", "goood"]) == 2
    err = capsys.readouterr().err
    assert "plugin goood: not installed; installed: " in err
    assert "good" in err


def test_check_takes_options_as_a_config_file_does(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("choosy", _CHOOSY)
    assert run(["plugins", "check", "choosy", "-o", "level=5", "-o", "word=two words"]) == 0
    assert run(["plugins", "check", "choosy"]) == 1
    assert run(["plugins", "check", "choosy", "-o", "level=high"]) == 2
    assert run(["plugins", "check", "choosy", "-o", "nonsense"]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("codec choosy: good\n")
    assert "'nonsense' is not KEY=VALUE" in err
