"""What the tests of the recipes of text to codes share."""

SMALL = "channels: 16, heads: 2, encoder_layers: 1, decoder_layers: 1, feedforward_channels: 32"
# A run of a second or two, without preparation.
QUICK = {
    "skip_prep": True,
    "code_workers": 1,
    "size": "tiny",
    "warmup_steps": 2,
    "test_utterances": 0,
    "use_judges": False,
}
