from waveglow_vq.text.normalization import normalize_text


def test_addresses():
    spoken = {
        "See https://www.acme.example/a-b/c_d?e=7#f, or http://acme.org/.": "see w w w dot acme "
        "dot example slash a dash b slash c underscore d question mark e equals seven hash f, or "
        "acme dot org.",
        "(at www.acme.fr) and acme.io/news": "at w w w dot acme dot fr, and acme dot io slash news",
        "Write to <jo.lee+x@mail.acme.org>!": "write to jo dot lee plus x at mail dot acme "
        "dot org!",
        "@jo_lee, #OldTownRoad #bridge_4 #3": "at jo underscore lee, hashtag old town road hashtag "
        "bridge four number three",
        "notes.docx, setup.py, old.tar.gz, song.mp3": "notes dot d o c x, setup dot p y, old dot "
        "tar dot gz, song dot m p three",
        "C# and C++": "c sharp and c plus plus",
    }
    assert {text: normalize_text(text) for text in spoken} == spoken
