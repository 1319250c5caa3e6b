"""A store at an address, against fsspec's file systems in memory and on disk."""

from __future__ import annotations

import fsspec
import pytest
from conftest import result_of, some_trial
from fsspec.config import set_conf_env

from companion.errors import InvalidValue, StoreUnavailable
from companion.paths import store_place
from companion.remote import RemoteStore
from companion.store import SetAside, Store, open_store

FIRST, SECOND, THIRD = (result_of(some_trial(seed=seed), 0.1 * seed) for seed in range(3))


@pytest.fixture
def address(request):
    yield f"memory://{request.node.name}/store"
    fsspec.filesystem("memory").store.clear()


def scores(store: Store) -> set[float]:
    return {result.outcome["score"] for result in store}


def test_what_one_machine_stores_another_finds(address, tmp_path):
    here, there = RemoteStore(address, tmp_path / "a"), RemoteStore(address, tmp_path / "b")
    here.put(FIRST)
    assert there.get(FIRST.trial) is None  # it was opened before
    again = RemoteStore(address, tmp_path / "b")
    assert again.get(FIRST.trial) == here.get(FIRST.trial)
    again.put(SECOND)
    assert scores(RemoteStore(address, tmp_path / "c")) == scores(RemoteStore(address, tmp_path / "a")) == {0.0, 0.1}


def test_a_folder_as_an_address_is_a_store_like_any_other(tmp_path):
    RemoteStore(f"file://{tmp_path}/far", tmp_path / "near").put(FIRST)
    assert scores(Store(tmp_path / "far")) == {0.0}


def test_what_could_not_be_sent_is_kept_and_sent_the_next_time(address, tmp_path, monkeypatch):
    store = RemoteStore(address, tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(
            store._there, "pipe_file", lambda *_: (_ for _ in ()).throw(TimeoutError("no route")), raising=False
        )
        with pytest.raises(
            StoreUnavailable, match=r"cannot be reached \(TimeoutError: no route\).*what was finished is kept"
        ):
            store.put(FIRST)
    assert scores(Store(tmp_path / "a")) == {0.0}
    assert scores(RemoteStore(address, tmp_path / "b")) == set()
    RemoteStore(address, tmp_path / "a")
    assert scores(RemoteStore(address, tmp_path / "b")) == {0.0}


def test_an_address_that_can_only_be_read_is_found_out_before_the_first_trial(address, tmp_path, monkeypatch):
    RemoteStore(address, tmp_path / "a").put(FIRST)
    store = RemoteStore(address, tmp_path / "b")
    store.check_writable()
    assert scores(RemoteStore(address, tmp_path / "c")) == {0.0}  # what was tried there is no result
    with monkeypatch.context() as patch:
        patch.setattr(store._there, "pipe_file", lambda *_: (_ for _ in ()).throw(PermissionError("read only")))
        with pytest.raises(StoreUnavailable, match="PermissionError: read only"):
            store.check_writable()
    assert scores(store) == {0.0}


def test_a_result_that_was_edited_there_is_set_aside_once(address, tmp_path):
    store = RemoteStore(address, tmp_path / "a")
    store.put(FIRST)
    files = fsspec.filesystem("memory")
    place = store._place(store.path(FIRST.trial.id))
    files.pipe_file(place, files.cat_file(place).replace(b'"score": 0.0', b'"score": 0.9'))
    other = RemoteStore(address, tmp_path / "b")
    with pytest.warns(SetAside, match="its content was changed"):
        assert other.get(FIRST.trial) is None
    assert scores(RemoteStore(address, tmp_path / "b")) == set()  # no second warning
    other.put(FIRST)
    assert scores(RemoteStore(address, tmp_path / "c")) == {0.0}


def test_names_that_are_no_results_stay_where_they_are(address, tmp_path):
    files = fsspec.filesystem("memory")
    for name in ("../../evil.json", "zz/x.json", "aa/b/c.json", "readme.txt"):
        files.pipe_file(f"{address}/{name}", b"{}")
    RemoteStore(address, tmp_path / "a")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("address", ["nonesuch://x", "s3://bucket/x", "http://127.0.0.1:9/store"])
def test_an_address_that_cannot_be_reached_is_named(address, tmp_path):
    with pytest.raises(StoreUnavailable, match=f"the store {address} cannot be reached"):
        RemoteStore(address, tmp_path / "a").put(THIRD)


@pytest.mark.parametrize("address", ["ftp://ada:secret@host/x", "sftp://ada:secret/@host:22/x", "memory://:secret@x"])
def test_a_password_in_an_address_is_refused_and_not_told(address, monkeypatch):
    wanted = f"the {address.partition(':')[0]}:// address of the store holds a password"
    with pytest.raises(InvalidValue, match=wanted) as raised:
        open_store(address)
    assert "secret" not in str(raised.value)
    monkeypatch.setenv("COMPANION_STORE", address)
    with pytest.raises(InvalidValue, match=wanted):
        open_store()


@pytest.mark.parametrize("address", ["sftp://ada@host/x", "s3://bucket/a@b", "http://host:80/x", "memory://x:y/z"])
def test_a_name_and_a_port_are_no_password(address):
    assert store_place(address) == address


def test_a_password_from_the_environment_reaches_the_file_system(monkeypatch):
    """The remedy in the message is fsspec's own: what it sets is handed to the file system."""
    given = {}
    set_conf_env(given, {"FSSPEC_FTP_PASSWORD": "secret"})
    assert given == {"ftp": {"password": "secret"}}
