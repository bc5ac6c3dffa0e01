import logging
import pickle
import tempfile

from waveglow_vq.demo.texts import DEMO_TEXTS
from waveglow_vq.errors import UserError
from waveglow_vq.text.normalization import normalize_text
from waveglow_vq.text.tokenizer import TextTokenizer, train_tokenizer

import pytest
import sentencepiece

TEXTS = [text for text, _ in DEMO_TEXTS]
SIZE = 120


@pytest.fixture(scope="module", params=["char", "bpe"])
def tokenizer(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "deep" / "tokenizer.model"
    return train_tokenizer(TEXTS, path, kind=request.param, vocabulary_size=SIZE)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "tokenizer.model"
    train_tokenizer(["the cat sat.", "on a mat, at ten"], path)
    return path


def test_tokens_become_the_normalized_text_again(tokenizer):
    others = ["A 2nd, quick brown fox!", "don't you; know?", "re-enter - or not", "z" * 5000]
    for text in TEXTS + others:
        tokens = tokenizer.encode(text)
        assert tokenizer.decode(tokens) == normalize_text(text)
        assert min(tokens) >= 1 and max(tokens) < tokenizer.vocabulary_size
        assert "".join(tokenizer.pieces(tokens)).replace("▁", " ")[1:] == normalize_text(text)


def test_kinds(tokenizer):
    letters = set("".join(map(normalize_text, TEXTS))) - {" "}
    text = "the weather vane points north"
    if tokenizer.kind == "char":
        assert tokenizer.vocabulary_size == len(letters) + 2
        assert len(tokenizer.encode(text)) == len(text) + 1
    else:
        assert tokenizer.vocabulary_size == SIZE
        assert len(tokenizer.encode(text)) < 0.7 * len(text)
    assert tokenizer.pieces([0]) == ["<unk>"]
    pieces = tokenizer.pieces(range(tokenizer.vocabulary_size))
    assert len(set(pieces)) == tokenizer.vocabulary_size


def test_both_kinds_are_made(tmp_path):
    kinds = [
        train_tokenizer(TEXTS, tmp_path / kind, kind=kind, vocabulary_size=SIZE).kind
        for kind in ("char", "bpe")
    ]
    assert kinds == ["char", "bpe"]


def test_text_that_is_normalized_already_is_taken_as_it_is(tokenizer):
    spoken = "the b b c at nine thirty"
    assert tokenizer.encode(spoken, normalized=True) == tokenizer.encode("the BBC at 9:30")
    with pytest.raises(UserError, match="without 'B', '9', '3', '0': spell them"):
        tokenizer.encode("B 930", normalized=True)


@pytest.mark.parametrize("text", ["", "  \n", "?!...", "-- '", "🙂"])
def test_text_with_nothing_to_say_is_refused(tokenizer, text):
    with pytest.raises(UserError, match="there is nothing to say in the text"):
        tokenizer.encode(text)


def test_unknown_symbols_are_named(tokenizer):
    with pytest.raises(UserError, match="without 'é': spell it differently"):
        tokenizer.encode("é", normalized=True)
    with pytest.raises(UserError, match="texts without '你', '好', 'ж': spell them") as error:
        tokenizer.encode("hello 你好你, ж")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="and others: spell") as error:
        tokenizer.encode("".join(map(chr, range(0x4E00, 0x4F00))))
    assert len(str(error.value)) < 400
    assert tokenizer.decode(tokenizer.encode("Café Ærø")) == "cafe aero"


def test_other_alphabets_are_learned(tmp_path):
    tokenizer = train_tokenizer(["Привет, мир! Йод", "你好。"], tmp_path / "m")
    assert tokenizer.decode(tokenizer.encode("Мир, йод. 好")) == "мир, йод. 好"


def test_unknown_marks_are_replaced_by_similar_ones(model_file):
    tokenizer = TextTokenizer(model_file)
    spoken = {"the cat!": "the cat.", "a cat; ten": "a cat. ten", "the-cat's": "the cats"}
    for text, expected in {**spoken, "the cat: sat?": "the cat. sat."}.items():
        assert tokenizer.decode(tokenizer.encode(text)) == expected
    with pytest.raises(UserError, match="texts without 'd', 'g': spell"):
        tokenizer.encode("dog!")


def test_all_long_texts_take_part(tmp_path):
    # Sentencepiece passes over lines of more than 4192 bytes.
    text = "ab " * 3000 + "c" * 6000 + " d"
    tokenizer = train_tokenizer([text], tmp_path / "m")
    assert tokenizer.vocabulary_size == 6
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_training_again_gives_the_same_model_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "tokenizer.model"
    train_tokenizer(TEXTS, path, kind="bpe", vocabulary_size=SIZE)
    first = path.read_bytes()
    train_tokenizer(iter(TEXTS), path, kind="bpe", vocabulary_size=SIZE)
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.model"]
    assert TextTokenizer(path).pieces(range(SIZE)) == _pieces(first)


def _pieces(data):
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(data)
    return [processor.id_to_piece(token) for token in range(processor.get_piece_size())]


def test_training_is_silent(tmp_path, capfd, caplog):
    sentencepiece.set_min_log_level(0)  # as it is in a new process
    with caplog.at_level(logging.INFO):
        train_tokenizer(TEXTS, tmp_path / "a", kind="bpe", vocabulary_size=SIZE)
        train_tokenizer(TEXTS, tmp_path / "b", kind="char")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_the_possible_size_is_named(tmp_path):
    path = tmp_path / "tokenizer.model"
    texts = ["the cat sat on the mat", "the hat"]
    with pytest.raises(
        UserError, match="vocabulary_size is 5000, .* at most [0-9]+ tokens"
    ) as high:
        train_tokenizer(texts, path, kind="bpe", vocabulary_size=5000)
    most = int(str(high.value).split("at most ")[1].split()[0])
    assert "\n" not in str(high.value)
    assert train_tokenizer(texts, path, "bpe", most).vocabulary_size == most
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"at most {most} tokens"):
        train_tokenizer(texts, path, "bpe", most + 1)
    with pytest.raises(UserError, match="vocabulary_size is 5, .* at least [0-9]+ tokens") as low:
        train_tokenizer(texts, path, "bpe", 5)
    least = int(str(low.value).split("at least ")[1].split()[0])
    # A failed training leaves the earlier model.
    assert path.read_bytes() == before
    assert train_tokenizer(texts, path, "bpe", least).vocabulary_size == least


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "there is no text to train"),
        (["", " ", "?!", "🙂"], {}, "there is no text to train"),
        (["text"], {"kind": "word"}, "tokenizer: 'word' is not one of"),
        (["text"], {"kind": "bpe", "vocabulary_size": "500"}, "vocabulary_size: '500'"),
        (["text"], {"kind": "bpe", "vocabulary_size": 1}, "vocabulary_size: 1;"),
        (["text"], {"kind": "bpe", "vocabulary_size": True}, "vocabulary_size: True"),
    ],
)
def test_impossible_trainings(tmp_path, texts, options, message):
    with pytest.raises(UserError, match=message):
        train_tokenizer(texts, tmp_path / "m", **options)
    assert not (tmp_path / "m").exists()


def test_folders_for_temporary_files_that_sentencepiece_cannot_read(tmp_path, monkeypatch):
    for name in ("with space", "with,comma"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
        with pytest.raises(UserError, match="set TMPDIR"):
            train_tokenizer(["text"], tmp_path / "m")


def test_any_folder_may_hold_the_model(tmp_path):
    path = tmp_path / "with space, comma" / "my model"
    assert (
        train_tokenizer(["text"], path).vocabulary_size == TextTokenizer(str(path)).vocabulary_size
    )


def test_damaged_files_are_refused(model_file, tmp_path):
    data = model_file.read_bytes()
    path = tmp_path / "damaged.model"
    cut_off = (data[:length] for length in (0, 20, 1000, len(data) // 2, len(data) - 1))
    for other in (*cut_off, b"hello", data + b"x", b"\xff" * 50, pickle.dumps({"a": 1})):
        path.write_bytes(other)
        with pytest.raises(UserError, match="damaged.model is damaged or not"):
            TextTokenizer(path)
    with pytest.raises(UserError, match="missing.model cannot be read: No such file"):
        TextTokenizer(tmp_path / "missing.model")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        TextTokenizer(tmp_path)


def test_tokenizers_of_other_programs_are_refused(tmp_path):
    (tmp_path / "texts").write_text("\n".join(TEXTS))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "texts"),
        model_prefix=str(tmp_path / "other"),
        vocab_size=100,
        minloglevel=2,
    )
    with pytest.raises(UserError, match="tokenizer of another program"):
        TextTokenizer(tmp_path / "other.model")


def test_tokenizers_are_loaded_later_and_travel_to_other_processes(model_file):
    tokenizer = TextTokenizer()
    with pytest.raises(UserError, match="no model yet"):
        tokenizer.encode("a")
    assert tokenizer.load(model_file) is tokenizer
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode("a cat.") == tokenizer.encode("a cat.")


def test_a_failed_loading_keeps_the_model(model_file, tmp_path):
    tokenizer = TextTokenizer(model_file)
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(UserError):
        tokenizer.load(tmp_path / "x")
    assert tokenizer.decode(tokenizer.encode("a cat")) == "a cat"


@pytest.mark.parametrize("token", [-1, 10**9])
def test_tokens_that_do_not_exist(model_file, token):
    tokenizer = TextTokenizer(model_file)
    for read in (tokenizer.decode, tokenizer.pieces):
        with pytest.raises(UserError, match=f"{token} is not a token"):
            read([1, token])
    assert tokenizer.decode([]) == ""
