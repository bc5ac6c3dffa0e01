"""WaveGlow with soft-EM vector quantization, as a plugin for SpeechBrain.

Import this package before `speechbrain` or `torchaudio`: it lets both be imported beside a torch
that was built without CUDA (see `waveglow_vq.torchaudio_compat`).
"""

from waveglow_vq.moved import install_old_names
from waveglow_vq.torchaudio_compat import install_stand_in
from waveglow_vq.utils.cache_folders import use_cache_folders

__version__ = "0.1.0"

install_old_names()
use_cache_folders()
install_stand_in()
