"""How long the sound in a file really is.

Programs that write to a pipe do not know the length beforehand and leave a placeholder; others
count a few bytes too many, or are stopped halfway. libsndfile believes all of their headers, so
:func:`~waveglow_vq.audio.headers.true_length.true_length` compares header and content first:

 * `data_chunks`: WAV, RF64, W64, AIFF, CAF and AU have one run of samples and state its bytes.
 * `flac_frames`: FLAC states its samples, and each frame has a number.
 * `mp3_frames`: MP3 may state its frames, which can be counted.
 * `spliced_files`: how a file is read as if its header were right, without a copy.
"""
