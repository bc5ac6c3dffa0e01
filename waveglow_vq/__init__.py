"""WaveGlow with soft-EM vector quantisation, as a plugin for SpeechBrain.

Import this package before `speechbrain` or `torchaudio`: it lets both be imported beside a torch
that was built without CUDA (see `waveglow_vq.torchaudio_compat`).
"""

from waveglow_vq.torchaudio_compat import install_stand_in

__version__ = "0.1.0"

install_stand_in()
