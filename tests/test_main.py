import os
import re
import signal
import subprocess
import sys

from waveglow_vq import __version__
from waveglow_vq.__main__ import COMMANDS, GROUPS, _parser, main

import pytest

pytestmark = pytest.mark.usefixtures("heeded_signals")


def start(*arguments, **options):
    command = [sys.executable, "-m", "waveglow_vq", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_help_and_wrong_usage_are_answered_without_torch():
    code = (
        "import sys\n"
        "from waveglow_vq.__main__ import COMMANDS, _parser, main\n"
        "for words in (['--help'], *([name, '--help'] for name in COMMANDS), ['vocode', 'a']):\n"
        "    try:\n"
        "        main(words)\n"
        "    except SystemExit as stop:\n"
        "        print('status', stop.code)\n"
        "assert not {'torch', 'numpy', 'tqdm'} & set(sys.modules), sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("status 0") == 1 + len(COMMANDS)
    assert done.stdout.count("status 2") == 1 and "arguments are required" in done.stderr
    assert done.stdout.count("\nexamples:\n") == len(COMMANDS)
    for name in COMMANDS:
        assert f"  waveglow-vq {name} " in done.stdout


def test_the_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"waveglow-vq {__version__}\n"


def test_a_command_is_listed_in_one_group():
    listed = re.findall(r"^    (\S+)", _parser().format_help(), re.MULTILINE)
    assert listed == list(COMMANDS) and len(set(listed)) == sum(map(len, GROUPS.values()))


def test_without_a_command_there_is_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    assert "import-checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "vocode ~/m ~/i ~/o",
        "encode ~/m ~/i ~/o",
        "decode ~/m ~/i ~/o",
        "convert ~/m ~/i ~/o --reference=~/r.wav",
        "speak ~/m ~ ~/o --attention=~/a.png",
        "encode-corpus ~/m ~/a.json ~/b.json ~/c --data_folder=~/d",
        "evaluate ~/r ~/e --json=~/s.json",
        "diagnose-conversion ~/m --manifests ~/a --data_root ~/b --output=~/c",
        "judge-speech ~/m ~/a.json --data_folder ~/b --output=~/c.json",
        "average ~/r --last 2 --output=~/c",
        "export-onnx ~/m ~/v.onnx",
        "demo-corpus ~/c",
        "import-checkpoint ~/c ~/f",
        "info ~/m",
    ],
)
def test_home_is_expanded_in_every_path(words, monkeypatch):
    monkeypatch.setenv("HOME", "/home/her")
    given = vars(_parser().parse_args(words.split()))
    lists = (value if isinstance(value, list) else [value] for value in given.values())
    found = [str(value) for values in lists for value in values]
    assert [path for path in found if path.startswith("~")] == ["~"] * (" ~ " in words)
    assert sum(path.startswith("/home/her/") for path in found) == words.count("~/")


def test_exit_status_of_the_process(tmp_path):
    done = start("vocode", "nowhere", tmp_path / "no.wav", tmp_path / "out.wav")
    out, error = done.communicate()
    assert done.returncode == 2 and out == ""
    assert error == f"error: INPUT: {tmp_path / 'no.wav'} does not exist\n"


def test_a_reader_that_has_had_enough_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "waveglow_vq", "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_interrupted(monkeypatch, capsys):
    def run(options):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(COMMANDS["info"], "run", run)
    with pytest.raises(SystemExit) as stop:
        main(["info", "."])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
