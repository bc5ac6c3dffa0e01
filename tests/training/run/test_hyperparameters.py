from waveglow_vq.errors import UserError
from waveglow_vq.training.run.hyperparameters import choose_batch, load_hparams, parse_arguments
from waveglow_vq.training.run.recipe_help import read_options

import pytest
from hyperpyyaml import resolve_references


@pytest.fixture
def hparams_file(tmp_path):
    (tmp_path / "preset.yaml").write_text("flow:\n    flows: 6\nsize: tiny\n", "utf-8")
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "batch_size: 8\nsize: tiny\npreset: !include:preset.yaml\n    size: !ref <size>\n", "utf-8"
    )
    return str(file)


def test_overrides_reach_into_the_preset(hparams_file):
    hparams = load_hparams(hparams_file, "size: base\npreset: {flow: {flows: 2}}")
    assert hparams["preset"] == {"flow": {"flows": 2}, "size": "base"}


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ("batchsize: 3", "batchsize is not an option.*batch_size"),
        ("preset: {flow: {flowz: 2}}", "flowz is not an option.*flows"),
        ("preset: {xyz: 2}", "xyz is not an option"),
        ("preset: {flow: 2", "cannot be read"),
    ],
)
def test_refuses_options_that_nothing_would_read(hparams_file, overrides, named):
    with pytest.raises(UserError, match=named):
        load_hparams(hparams_file, overrides)


def test_passes_on_what_speechbrain_understands(hparams_file):
    arguments = ["--size=base", "--device", "cpu", hparams_file, "--preset", "{flow: {flows: 8}}"]
    file, run_opts, overrides = parse_arguments([*arguments, "--debug", "--max_grad_norm=-1"])
    assert file == hparams_file
    assert run_opts["device"] == "cpu" and run_opts["debug"] and run_opts["max_grad_norm"] == -1
    assert run_opts["overridden_args"] == {"device", "debug", "max_grad_norm"}
    assert overrides == 'size: "base"\npreset: {flow: {flows: 8}}'


def test_a_key_that_is_a_run_option_too_is_given_to_both(hparams_file):
    with open(hparams_file, "a") as file:
        file.write("nonfinite_patience: 3\n")
    _, run_opts, overrides = parse_arguments([hparams_file, "--nonfinite_patience", "7"])
    assert run_opts["nonfinite_patience"] == 7 and overrides == "nonfinite_patience: 7"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--prec", "fp16"], r"--prec: write the option in full \(--precision\)"),
        (["--deb=1"], "in full .*--debug"),
        (["--debug=True"], "--debug is a switch and takes no value"),
        (["--debug", "True"], "'True' behind --debug belongs to no option"),
        (["--size"], "--size needs a value"),
        (["--size", "--debug"], "--size needs a value"),
        (["--size", "a", "b"], "'b' behind --size belongs to no option"),
        (["-v"], "-v is not an option; options begin with two dashes"),
        (["--size", "tiny", "--size=base"], "--size is given twice"),
        (["--batch_size", "[1"], r"--batch_size '\[1' cannot be read as YAML"),
        (["--batch_size", ""], "--batch_size is empty"),
        (["--precision", "half"], "--precision: invalid choice: 'half'"),
        (["--debug_batches", "few"], "--debug_batches: invalid int value: 'few'"),
    ],
)
def test_refuses_what_speechbrain_would_get_wrong(hparams_file, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_arguments([hparams_file, *arguments])


def test_needs_a_yaml():
    with pytest.raises(UserError, match="name the YAML file first.*--help"):
        parse_arguments(["--size", "tiny"])


def test_says_that_there_is_no_such_file(tmp_path):
    with pytest.raises(UserError, match="nothing.yaml"):
        load_hparams(str(tmp_path / "nothing.yaml"), "")


def test_a_reference_to_nothing(hparams_file):
    with open(hparams_file, "a") as file:
        file.write("steps: !ref <epochs>\n")
    with pytest.raises(UserError, match="recipe.yaml cannot be read: .*epochs"):
        load_hparams(hparams_file, "")


def test_a_key_that_the_yaml_leaves_open_has_to_be_given(hparams_file):
    with open(hparams_file, "a") as file:
        file.write("corpus: !PLACEHOLDER # where it is\n")
    with pytest.raises(UserError, match="--corpus must be given"):
        load_hparams(hparams_file, "")
    assert load_hparams(hparams_file, "corpus: here")["corpus"] == "here"


def test_a_key_may_begin_like_a_run_option(hparams_file):
    with open(hparams_file, "a") as file:
        file.write("prec: 3\n")
    _, run_opts, overrides = parse_arguments([hparams_file, "--prec", "4"])
    assert overrides == "prec: 4" and run_opts["precision"] == "fp32"


SECTIONS = """\
seed: 1
train_log: here
training: !include:training.yaml
    train_log: !ref <train_log>
    epochs: 200
model: !ref <training[rates]>
"""
TRAINING = "epochs: 50 # in all\nrate: 0.1\ntrain_log: null\nrates: {low: !ref <rate>}\n"


def test_keys_of_a_section_are_options_like_those_beside_them(tmp_path):
    (tmp_path / "training.yaml").write_text(TRAINING)
    file = tmp_path / "recipe.yaml"
    file.write_text(SECTIONS)
    assert load_hparams(str(file), "")["epochs"] == 200
    arguments = ["--rate", "1e-3", "--epochs", "7", "--seed", "2", "--train_log", "007"]
    _, _, overrides = parse_arguments([str(file), *arguments])
    hparams = load_hparams(str(file), overrides)
    assert (hparams["rate"], hparams["epochs"], hparams["seed"]) == (0.001, 7, 2)
    assert hparams["train_log"] == "007" and hparams["model"] is hparams["rates"]
    # What the run saves repeats it.
    with open(file) as stream:
        text = resolve_references(stream, overrides).read()
    saved = tmp_path / "hyperparams.yaml"
    saved.write_text(text)
    assert "!" not in text and load_hparams(str(saved), "") == hparams
    _, _, overrides = parse_arguments([str(saved), "--rate", "0.5"])
    assert load_hparams(str(saved), overrides)["rate"] == 0.5
    options = {option.keys: option[1:3] for option in read_options(file)}
    assert options[("epochs",)] == ("200", "in all") and options[("rate",)] == ("0.1", "")
    with pytest.raises(UserError, match=r"did you mean epochs: --epochs\?|did you mean --epochs"):
        load_hparams(str(file), "epoch: 3")


def test_a_key_that_a_script_needs_and_its_yaml_lacks(hparams_file):
    hparams = load_hparams(hparams_file, "")
    with pytest.raises(UserError, match="has no 'codec'; give one that belongs to this script"):
        hparams["codec"]


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """What ``batch_size: auto`` becomes with these options: segments per step and process, rate."""
    file = tmp_path / "recipe.yaml"
    segments = tmp_path / "segments.yaml"
    segments.write_text("batch_size: auto\nsegment_frames: 16\n", "utf-8")
    file.write_text(
        f"output_folder: {tmp_path}/run\nlearning_rate: 0.002\n"
        f"segments: !include:segments.yaml\n    segment_frames: 16\n",
        "utf-8",
    )

    def choose(*options, processes=1):
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        _, run_opts, overrides = parse_arguments([str(file), *options])
        hparams = load_hparams(str(file), choose_batch(str(file), overrides, run_opts))
        if "--segment_frames" in options:
            assert hparams["segment_frames"] == 32
        return hparams["batch_size"], hparams["learning_rate"]

    return choose


@pytest.mark.parametrize(
    ("options", "processes", "expected"),
    [
        (["--device", "cpu"], 1, (8, 0.002)),
        (["--device", "cuda", "--segment_frames", "32"], 1, (64, 0.00565685)),
        (["--device", "cuda:0", "--learning_rate", "0.001"], 2, (64, 0.004)),
        (["--device", "cpu", "--grad_accumulation_factor", "4"], 1, (8, 0.004)),
        (["--device", "cuda", "--batch_size", "16"], 4, (16, 0.002)),
        (["--device", "cpu", "--batch_size", "auto"], 1, (8, 0.002)),
    ],
)
def test_the_batch_and_its_rate(chosen, options, processes, expected):
    assert chosen(*options, processes=processes) == expected


def test_a_run_keeps_the_batch_it_was_begun_with(chosen, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "hyperparams.yaml").write_text(
        "segments:\n  batch_size: 64\nlearning_rate: 0.00565685\n", "utf-8"
    )
    assert chosen("--device", "cpu") == (64, 0.00565685)
    assert chosen("--device", "cpu", "--batch_size", "4") == (4, 0.002)
