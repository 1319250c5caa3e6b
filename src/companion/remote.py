"""A store at an address (``s3://…``, ``gs://…``, ``sftp://…``: anything fsspec knows), for machines that go away.

It is worked on as a folder here, filled from the address when it is opened; each result goes to the address as soon as
it is written. What could not be sent (a network that was down) is sent the next time the store is opened. Claims and
failures stay here: sweeps on two machines that share nothing but an address may run a trial twice, and send equal
results.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fsspec

from companion.errors import StoreUnavailable, one_line
from companion.paths import BUILD
from companion.store import Result, Store


class RemoteStore(Store):
    """A :class:`Store` whose results are at ``address`` too. Raises :class:`StoreUnavailable` where that cannot be
    reached; the results that are here stay and are sent when it is opened again."""

    def __init__(self, address: str, folder: Path | None = None) -> None:
        super().__init__(folder or BUILD / "stores" / hashlib.sha256(address.encode()).hexdigest()[:16])
        self.address = address
        with self._reached():
            self._there, self._root = fsspec.url_to_fs(address)
            self._exchange()

    def check_writable(self) -> None:
        """Stop now rather than after the first trial, also where the address can only be read."""
        super().check_writable()
        with self._reached():
            self._there.makedirs(self._root, exist_ok=True)
            self._there.pipe_file(f"{self._root}/.writable", b"")

    def put(self, result: Result) -> None:
        """Store a result here, and send it."""
        super().put(result)
        with self._reached():
            self._send(self.path(result.trial.id))

    def _exchange(self) -> None:
        """Fetch the results that are missing here, send those that are missing there."""
        pattern = "[0-9a-f][0-9a-f]/*.json"
        # what was fetched once and could not be trusted is not fetched again
        here = {path.name for path in (*self.folder.glob(pattern), *self.folder.glob("set-aside/*.json"))}
        there = {Path(name).name for name in self._there.glob(f"{self._root}/{pattern}")}
        for name in sorted(there - here):
            self._fetch(self.path(name.removesuffix(".json")))
        for path in sorted(self.folder.glob(pattern)):
            if path.name not in there and self._read(path) is not None:
                self._send(path)

    def _place(self, path: Path) -> str:
        return f"{self._root}/{path.parent.name}/{path.name}"

    def _fetch(self, path: Path) -> None:
        self._check_inside(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:  # whole or not at all
            self._there.get_file(self._place(path), f"{folder}/fetched")
            os.replace(f"{folder}/fetched", path)

    def _send(self, path: Path) -> None:
        self._there.makedirs(f"{self._root}/{path.parent.name}", exist_ok=True)
        with self._there.transaction:  # a reader never sees half a file where the file system can promise that
            self._there.pipe_file(self._place(path), path.read_bytes())

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except StoreUnavailable:
            raise
        except Exception as error:  # each file system has errors of its own
            reason = one_line(f"{type(error).__name__}: {error}")
            raise StoreUnavailable(
                f"the store {self.address} cannot be reached ({reason})",
                "correct the address, its credentials or the network, or install the package that it needs, and run "
                f"again; what was finished is kept in {self.folder}",
            ) from error
