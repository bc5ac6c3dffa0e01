from waveglow_vq.errors import UserError
from waveglow_vq.inference.conversion.voices import speaker_numbers

import pytest

KNOWN = [f"s{number}" for number in range(310, 320)] + ["Anna", "s42", "nobody"]


@pytest.mark.parametrize(
    ("label", "hint"),
    [
        ("s4", "the nearest is 's42'"),
        ("s31", "near are 's310', 's311', 's312', 's313', 's314', 's315' and 4 more"),
        ("31", "near are 's310', 's311', 's312', 's313', 's314', 's315' and 4 more"),
        ("ANNA", "the nearest is 'Anna'"),
        ("a", "the nearest is 'Anna'"),
        ("n", "the nearest is 'nobody'"),
        ("N", "the nearest is 'nobody'"),
        ("anan", "the nearest is 'Anna'"),
        ("o", "the nearest is 'nobody'"),
        ("2", "near are 's312' and 's42'"),
        ("", "the first is 's310'"),
        ("zzz", "the first is 's310'"),
    ],
)
def test_speakers_that_may_be_meant_are_named(label, hint):
    with pytest.raises(UserError, match="is not one of the 13 speakers") as error:
        speaker_numbers(KNOWN, label, 1)
    assert f"; {hint}, and VoiceConverter.speakers" in str(error.value)
