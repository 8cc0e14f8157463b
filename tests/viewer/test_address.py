"""Where the viewer listens, and the command that starts it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from viewer.visitor import Visitor

from taichi_avatars.bench import example_avatar
from taichi_avatars.cli import run
from taichi_avatars.errors import UserError
from taichi_avatars.viewer import address


def test_this_machine_alone_needs_no_warning() -> None:
    assert address.check_address("127.0.0.1", 8080) is None
    assert address.check_address("localhost", 0) is None


def test_a_network_is_warned_of() -> None:
    warning = address.check_address("0.0.0.0", 8080)
    assert warning is not None and "no password" in warning


@pytest.mark.parametrize("host", ["192.0.2.7", "no-such-host.invalid", "999.1.1.1", "a" * 300])
def test_an_address_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(UserError, match="cannot listen there"):
        address.check_address(host, 8080)


def test_without_viser_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'taichi-avatars\[viewer\]'"):
        address.check_address("127.0.0.1", 8080)


def test_addresses_that_can_be_typed() -> None:
    assert address.url("0.0.0.0", 80) == "http://localhost:80"
    assert address.url("::1", 81) == "http://localhost:81"
    assert address.url("fe80::7", 82) == "http://[fe80::7]:82"


def test_mistakes_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        ([str(tmp_path / "nothing")], "no such file"),
        ([str(tmp_path)], "no avatar here"),
        ([str(tmp_path), "--host", "192.0.2.7"], "cannot listen there"),
    ):
        assert run(["view", *arguments]) == 1
        text = capfd.readouterr().err
        assert words in text and text.count("\n") == 1


def test_the_command_serves_until_ctrl_c(tmp_path: Path) -> None:
    example_avatar(2000).save(tmp_path / "point_cloud" / "iteration_7")
    command = [sys.executable, "-m", "taichi_avatars", "view", str(tmp_path), "--port", "0", "--json", "--height", "120"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            where = json.loads("".join(process.stdout.readline() for _ in range(3)))["address"]
            visitor = Visitor(where)
            assert visitor.rested().shape == (120, 80, 3)
            assert "Split" not in visitor.controls  # no capture is known
            visitor.close()
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=60)
        finally:
            process.kill()  # whatever failed: the tests must not wait for it
    assert (process.returncode, rest) == (0, ""), errors
    assert "Traceback" not in errors
