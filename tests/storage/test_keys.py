"""Master keys: what wraps, what unwraps, and what a key file refuses."""

import os
import stat

import pytest

from obieg.domain.document_store import DocumentDamagedError
from obieg.storage.keys import KeyFile, KeyFileError, copy_key_file, create_key_file, rewrap, rotate


@pytest.fixture
def path(tmp_path):
    create_key_file(tmp_path / "keys" / "master.key")
    return tmp_path / "keys" / "master.key"


def test_wraps_and_unwraps(path):
    key = os.urandom(32)
    wrapped = KeyFile(path).wrap(key)
    assert key not in wrapped
    assert KeyFile(path).unwrap(wrapped) == key


def test_only_the_owner_may_read_it(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        KeyFile(path)


def test_an_existing_file_is_not_overwritten(path):
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="exists"):
        create_key_file(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["", "# only words\n", "1 abcd\n", "one " + "00" * 32 + "\n", "1 2 3\n"])
def test_refuses_what_is_no_key_file(path, content):
    path.write_text(content)
    with pytest.raises(KeyFileError):
        KeyFile(path)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(KeyFileError, match="missing"):
        KeyFile(tmp_path / "none")


@pytest.mark.parametrize("byte", [0, 3, 4, 15, 16, 47, 48, 63])
def test_a_changed_wrapped_key_is_noticed(path, byte):
    wrapped = bytearray(KeyFile(path).wrap(bytes(32)))
    wrapped[byte] ^= 1
    with pytest.raises(DocumentDamagedError):
        KeyFile(path).unwrap(bytes(wrapped))


def test_another_nodes_key_does_not_open(path, tmp_path):
    create_key_file(tmp_path / "other")
    with pytest.raises(DocumentDamagedError):
        KeyFile(tmp_path / "other").unwrap(KeyFile(path).wrap(bytes(32)))


def test_rotation_wraps_with_the_new_key_and_still_reads_the_old(path):
    key = os.urandom(32)
    running = KeyFile(path)
    old = running.wrap(key)
    assert rotate(path) == 2
    fresh = KeyFile(path)
    assert fresh.unwrap(old) == key
    new = rewrap(fresh, old)
    assert new != old
    assert rewrap(fresh, new) == new
    # The worker that was running before the rotation reads what the others write now.
    assert running.unwrap(new) == key
    # Once everything is wrapped anew the old key may go.
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("1 ")))
    assert KeyFile(path).unwrap(new) == key
    with pytest.raises(DocumentDamagedError, match="master key 1"):
        KeyFile(path).unwrap(old)


def test_a_restored_file_adds_to_the_same_keys_and_refuses_others(path, tmp_path):
    saved = path.read_bytes()
    rotate(path)
    copy_key_file(saved, path)
    assert KeyFile(path).is_current((2).to_bytes(4, "big"))
    create_key_file(tmp_path / "other")
    with pytest.raises(KeyFileError, match="other keys"):
        copy_key_file(saved, tmp_path / "other")
    copy_key_file(saved, tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == saved
