import tempfile

from waveglow_vq.errors import UserError, cli_errors

import pytest


def test_user_error_becomes_one_line_and_status_2(capsys):
    with pytest.raises(SystemExit) as exit, cli_errors():
        raise UserError("no such folder:\n  corpus")
    assert exit.value.code == 2
    streams = capsys.readouterr()
    assert streams.err == "error: no such folder: corpus\n"
    assert streams.out == ""


def test_works_as_a_decorator_each_time_it_is_called(capsys):
    @cli_errors()
    def main(value):
        if value < 0:
            raise UserError("--value is negative")
        return value

    assert main(3) == 3
    for _ in range(2):
        with pytest.raises(SystemExit):
            main(-1)
    assert capsys.readouterr().err == "error: --value is negative\n" * 2


def test_no_place_for_temporary_files(capsys, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/no"])
    with pytest.raises(SystemExit), cli_errors():
        tempfile.gettempdir()
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "TMPDIR" in error
    with pytest.raises(FileNotFoundError), cli_errors():
        open("/proc/no")


def test_other_errors_keep_their_traceback():
    with pytest.raises(ValueError, match="defect"), cli_errors():
        raise ValueError("a defect, not the user")


def test_user_error_is_a_value_error():
    assert issubclass(UserError, ValueError)
