"""Command lines of the recipes for tests."""


def command_line(recipe, yaml, defaults, options):
    """What starts ``recipe/hparams/yaml`` on the CPU, with the options and those of the defaults
    that they do not name."""
    options = [str(option) for option in options]
    arguments = [str(recipe / "hparams" / f"{yaml}.yaml"), "--device", "cpu", "--noprogressbar"]
    for name, value in defaults.items():
        if f"--{name}" not in options:
            arguments += [f"--{name}", str(value)]
    return arguments + options
