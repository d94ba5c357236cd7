"""Training data: both token formats, what is refused, tokenising, downloads that break and resume, batches."""

import hashlib
import http.server
import re
import threading

import numpy as np
import pytest

from lab import download
from lab.train import data
from lab.train.data import DataError, DataLoader

PLAY = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n\n" * 40


@pytest.mark.parametrize("fmt", data.FORMATS)
def test_tokens_come_back(tmp_path, fmt):
    tokens = np.array([50256, 0, 1, 65535, 464], dtype=np.int64)
    data.write_tokens(tmp_path / "t.bin", [tokens], fmt)
    np.testing.assert_array_equal(data.read_tokens(tmp_path / "t.bin"), tokens)
    assert list(tmp_path.iterdir()) == [tmp_path / "t.bin"]


def test_current_format_byte_for_byte(tmp_path):
    data.write_tokens(tmp_path / "t.bin", [np.array([50256, 3])])
    raw = (tmp_path / "t.bin").read_bytes()
    assert len(raw) == 1024 + 4
    assert np.frombuffer(raw[:12], dtype="<i4").tolist() == [20240520, 1, 2]
    assert raw[12:1024] == bytes(1012)
    assert raw[1024:] == b"\x50\xc4\x03\x00"


def test_first_format_byte_for_byte(tmp_path):
    data.write_tokens(tmp_path / "t.bin", [np.array([50256, 3])], "int32")
    assert (tmp_path / "t.bin").read_bytes() == b"\x50\xc4\x00\x00\x03\x00\x00\x00"


def header(*fields, count=256):
    values = np.zeros(count, dtype="<i4")
    values[: len(fields)] = fields
    return values.tobytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "size: found 0 bytes"),
        (b"abc", "size: found 3 bytes"),
        (b"Some text, not tokens at all", "not a token file: it begins with"),
        (header(20240520, 1, 5, count=10), "the header alone is 1024"),
        (header(20240520, 2, 1) + b"\1\0", "version: found 2, expected 1"),
        (header(20240520, 1, 5) + b"\1\0", "expected 1034 for the 5 tokens it states"),
        (header(20240520, 1, -3), "size: found 1024 bytes"),
    ],
)
def test_token_files_that_are_refused(tmp_path, content, message):
    (tmp_path / "t.bin").write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)):
        data.read_tokens(tmp_path / "t.bin")


def test_a_missing_token_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be opened"):
        data.read_tokens(tmp_path / "none.bin")


def test_tokens_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(DataError, match="found 5 to 65536"):
        data.write_tokens(tmp_path / "t.bin", [np.array([65536, 5])])
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------- tokenising


def test_text_is_cut_as_llm_c_cuts_it():
    assert data.documents("A:\none\n\nB:\ntwo\n") == "<|endoftext|>A:\none\n\n<|endoftext|>B:\ntwo\n"


@pytest.mark.parametrize("fmt", data.FORMATS)
def test_a_text_file_becomes_two_token_files(tmp_path, fmt):
    from lab.tokenizer import decode

    (tmp_path / "play.txt").write_text(PLAY, encoding="utf-8")
    train, val = data.prepare(str(tmp_path / "play.txt"), fmt, tmp_path / "made")
    train_tokens, val_tokens = data.read_tokens(train), data.read_tokens(val)
    everything = np.concatenate([val_tokens, train_tokens])
    assert val_tokens[0] == 50256
    assert decode(everything.tolist()) == data.documents(PLAY)
    assert val_tokens.size == everything.size // 10  # a short text: a tenth of it, not 32,768
    before = train.stat().st_mtime_ns
    assert data.prepare(str(tmp_path / "play.txt"), fmt, tmp_path / "made") == (train, val)
    assert train.stat().st_mtime_ns == before  # nothing was done again
    (tmp_path / "play.txt").write_text(PLAY + "Exit.", encoding="utf-8")
    assert data.prepare(str(tmp_path / "play.txt"), fmt, tmp_path / "made")[0] != train  # another text, other tokens


@pytest.mark.parametrize("end", ["\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_line_ends_and_byte_order_marks_change_nothing(tmp_path, end, encoding):
    (tmp_path / "play.txt").write_bytes(PLAY.encode())
    expected = [
        data.read_tokens(path) for path in data.prepare(str(tmp_path / "play.txt"), directory=tmp_path / "made")
    ]
    (tmp_path / "other.txt").write_bytes(PLAY.replace("\n", end).encode(encoding))
    found = data.prepare(str(tmp_path / "other.txt"), directory=tmp_path / "made")
    assert all(np.array_equal(data.read_tokens(path), tokens) for path, tokens in zip(found, expected, strict=True))


def test_line_ends_and_byte_order_marks_of_large_texts(tmp_path):
    stories = ["One.\n\nTwo.\n<|endoftext|>\n", "Three.\n"]
    path = tmp_path / "stories.txt"
    path.write_bytes("".join(stories).replace("\n", "\r\n").encode("utf-8-sig"))
    assert "".join(data.text_pieces(path)) == "".join(stories)


def test_texts_that_are_refused(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "short.txt").write_text("To be.")
    with pytest.raises(DataError, match="not UTF-8 text: byte 3"):
        data.prepare(str(tmp_path / "latin.txt"), directory=tmp_path)
    with pytest.raises(DataError, match="empty"):
        data.prepare(str(tmp_path / "empty.txt"), directory=tmp_path)
    with pytest.raises(DataError, match="too few"):
        data.prepare(str(tmp_path / "short.txt"), directory=tmp_path)
    with pytest.raises(DataError, match="cannot be opened"):
        data.prepare(str(tmp_path / "none.txt"), directory=tmp_path)


def test_large_texts_are_tokenised_in_pieces(tmp_path, monkeypatch):
    from lab.tokenizer import decode

    monkeypatch.setattr(data, "CHUNK", 100)
    stories = "".join(f"Once upon a time there was number {i}.<|endoftext|>\n" for i in range(30)) + "The end"
    (tmp_path / "stories.txt").write_text(stories, encoding="utf-8")
    assert len(list(data.text_pieces(tmp_path / "stories.txt"))) > 5
    seen = []
    data.tokenize_stories(
        tmp_path / "stories.txt", tmp_path / "stories.bin", "uint16", lambda *state: seen.append(state)
    )
    assert decode(data.read_tokens(tmp_path / "stories.bin").tolist()) == "<|endoftext|>" + stories
    assert seen[-1][1] == seen[-1][2] == len(stories)


# ----------------------------------------------------------------------------------------------------------- downloads


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; breaks the connection off after `limit` bytes; obeys Range unless told not to; remembers the
    ranges asked.
    """

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.limit, self.ranges, self.obeys, self.tag = content, None, [], True, None
        self.url = f"http://127.0.0.1:{self.server_port}/file"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.server.tag and not self.path.endswith("/there"):
            return self.redirect()
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        start = int(asked.split("=")[1].rstrip("-")) if asked and self.server.obeys else 0
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.limit])

    def redirect(self):
        """As Hugging Face does with large files, saying what their SHA-256 is."""
        self.send_response(302)
        self.send_header("X-Linked-ETag", f'"{self.server.tag}"')
        self.send_header("Location", f"{self.path}/there")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = Server(bytes(range(256)) * 1000)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_download(server, tmp_path):
    seen = []
    digest = hashlib.sha256(server.content).hexdigest()
    data.download(server.url, tmp_path / "deep" / "file", digest, lambda *state: seen.append(state))
    assert (tmp_path / "deep" / "file").read_bytes() == server.content
    assert seen[-1][1:] == (256000, 256000)
    data.download(server.url, tmp_path / "deep" / "file", digest)
    assert len(server.ranges) == 1  # what is there is not fetched again


@pytest.mark.parametrize("obeys", [True, False], ids=["resumes", "starts again"])
def test_a_broken_download_goes_on(server, tmp_path, monkeypatch, obeys):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.limit, server.obeys = 100_000, obeys
    with pytest.raises(DataError, match="the connection broke off; run it again"):
        data.download(server.url, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    have = (tmp_path / "file.part").stat().st_size
    assert 100_000 - download.CHUNK < have <= 100_000
    server.limit = None
    data.download(server.url, tmp_path / "file", hashlib.sha256(server.content).hexdigest())
    assert server.ranges == [None, f"bytes={have}-"]
    assert (tmp_path / "file").read_bytes() == server.content


def test_a_wrong_hash_is_refused(server, tmp_path):
    with pytest.raises(DataError, match="SHA-256: found"):
        data.download(server.url, tmp_path / "file", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_the_hash_the_server_states_is_checked(server, tmp_path):
    server.tag = "f" * 64
    with pytest.raises(DataError, match=f"expected {'f' * 64}"):
        data.download(server.url, tmp_path / "file")
    server.tag = hashlib.sha256(server.content).hexdigest()
    data.download(server.url, tmp_path / "file")


def test_a_named_corpus(server, tmp_path, monkeypatch):
    server.content = PLAY.encode()
    corpus = data.Corpus(server.url, hashlib.sha256(server.content).hexdigest())
    monkeypatch.setitem(data.CORPORA, "play", corpus)
    train, val = data.prepare("play", directory=tmp_path)
    assert (train.name, val.name) == ("play_train.bin", "play_val.bin")
    assert data.read_tokens(val)[0] == 50256
    data.prepare("play", directory=tmp_path)
    assert len(server.ranges) == 1


def test_a_corpus_of_stories(server, tmp_path, monkeypatch):
    server.content = b"One day.<|endoftext|>Another day."
    monkeypatch.setitem(data.CORPORA, "stories", data.Corpus(server.url, None, server.url))
    train, val = data.prepare("stories", directory=tmp_path)
    np.testing.assert_array_equal(data.read_tokens(train), data.read_tokens(val))


def test_no_network_is_one_line(tmp_path):
    with pytest.raises(DataError, match="--data FILE") as failure:
        data.download("http://127.0.0.1:9/none", tmp_path / "file")
    assert "\n" not in str(failure.value)


# ------------------------------------------------------------------------------------------------------------- batches


def test_loader_is_in_order_and_wraps():
    loader = DataLoader(np.arange(20, dtype=np.uint16), 2, 3)
    assert loader.batches == 3
    inputs, targets = loader.batch(1)
    assert inputs.tolist() == [[6, 7, 8], [9, 10, 11]]
    assert targets.tolist() == [[7, 8, 9], [10, 11, 12]]
    np.testing.assert_array_equal(loader.batch(3)[0], loader.batch(0)[0])


def test_loader_uses_a_file_that_fits_exactly():
    assert DataLoader(np.arange(7), 2, 3).batches == 1
    with pytest.raises(DataError, match="needs 7"):
        DataLoader(np.arange(6), 2, 3)


def test_shuffled_loader_sees_every_sequence_once_a_pass():
    loader = DataLoader(np.arange(1000), 4, 10, seed=5)
    for passes in range(3):
        batches = [loader.batch(passes * loader.batches + i) for i in range(loader.batches)]
        starts = [int(row[0]) for inputs, _ in batches for row in inputs]
        assert len(set(starts)) == len(starts) == 4 * loader.batches
        assert len({start % 10 for start in starts}) == 1  # one cut for the pass
        assert all((targets == inputs + 1).all() for inputs, targets in batches)
    np.testing.assert_array_equal(loader.batch(7)[0], DataLoader(np.arange(1000), 4, 10, seed=5).batch(7)[0])
    assert (loader.batch(0)[0] != loader.batch(loader.batches)[0]).any()


def test_shuffled_loader_fits_its_last_sequence_at_every_cut():
    for size in range(31, 45):
        loader = DataLoader(np.arange(size), 2, 10, seed=1)
        for number in range(40 * loader.batches):
            assert loader.batch(number)[1].max() < size
