"""Device and precision of an interface: SpeechBrain's run options."""

import contextlib
import dataclasses

from waveglow_vq.errors import UserError
from waveglow_vq.utils.devices import PRECISIONS, checked_device

import torch
from speechbrain.utils.run_opts import RunOptions


def check_run_opts(run_opts):
    """Run options as any SpeechBrain interface takes them, with the device, which may be a
    ``torch.device``, as a str. If there is no such option, device or precision, that is a
    UserError.

    Example
    -------
    >>> check_run_opts({"device": torch.device("cpu")})
    {'device': 'cpu'}
    """
    if run_opts is None:
        return None
    if isinstance(run_opts, RunOptions):
        run_opts = dataclasses.replace(run_opts, device=checked_device(run_opts.device))
        given = {name: run_opts[name] for name in run_opts.overridden_args}
    elif isinstance(run_opts, dict):
        run_opts = dict(run_opts)
        if "device" in run_opts:
            run_opts["device"] = checked_device(run_opts["device"])
        given = run_opts
    else:
        raise UserError(
            'run_opts: expected a dict such as {"device": "cpu"}, got ' + type(run_opts).__name__
        )
    known = {field.name for field in dataclasses.fields(RunOptions)}
    for name in given:
        if name not in known:
            raise UserError(f"run_opts: SpeechBrain has no option {name!r}")
    precision = given.get("precision", "fp32")
    if precision not in PRECISIONS:
        raise UserError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    return run_opts


@contextlib.contextmanager
def default_dtype(dtype):
    """Sets torch's default dtype within a ``with`` statement.

    Example
    -------
    >>> with default_dtype(torch.float64):
    ...     torch.ones(1).dtype
    torch.float64
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
