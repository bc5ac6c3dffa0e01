"""Audio files, resampling, log-mels and pitch.

`io` reads and writes files, `blocks` reads long ones in constant memory, and both open them with
`sound_files`, which repairs headers with a wrong length (`headers`). `formats` knows extensions.
"""
