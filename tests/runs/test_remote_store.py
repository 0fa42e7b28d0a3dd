"""Runs in an object store: a real S3 server of this machine, a disk and memory, all through fsspec."""

from __future__ import annotations

import json
import logging
import os
import uuid

import pytest

from chimera_lib.errors import ChimeraError, NotebookFailed
from chimera_lib.runs.engine import Cell, run_cells
from chimera_lib.runs.remote_store import RemoteStore
from chimera_lib.runs.stores import open_store

NAME = "images/01-first"
ID = "0" * 16


@pytest.fixture(scope="session")
def bucket():
    """An empty bucket on a server that speaks S3, which the surroundings name."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    address = "http://{}:{}".format(*running.get_host_and_port())
    names = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    import fsspec

    fsspec.filesystem("s3").mkdir("runs-of-tests")
    yield "s3://runs-of-tests"
    fsspec.filesystem("s3").clear_instance_cache()
    running.stop()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(params=["s3", "file", "memory"])
def store(request, tmp_path):
    if request.param == "s3":
        return open_store(f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}")
    return open_store({"file": f"file://{tmp_path}/runs", "memory": f"memory://{uuid.uuid4().hex}"}[request.param])


def make(store, value=1, *, replace=False):
    with store.partial() as scratch:
        run = scratch / "run"
        (run / "executed.ipynb").write_text("{}")
        (run / "parameters.yml").write_text("{}\n")
        (run / "metrics.json").write_text(json.dumps({"rate": {"value": value}}))
        (run / "environment.json").write_text(json.dumps({"date": "2026-01-01"}))
        (run / "tables").mkdir()
        (run / "tables" / "one.csv").write_text("a,b\n")
        return store.put(scratch, "quick", NAME, ID, replace=replace)


def value(store):
    run = store.find("quick", NAME, ID)
    return None if run is None else run.metrics["rate"]["value"]


def test_what_was_put_is_found(store):
    assert store.find("quick", NAME, ID) is None and store.runs() == []
    run = make(store)
    assert store.find("quick", NAME, ID) == run
    assert run.folder == f"{store.root}/quick/{NAME}/{ID}"
    assert run.environment["files"]["tables/one.csv"] == 4
    assert store.runs() == [run]
    assert store.find("full", NAME, ID) is None
    with pytest.raises(ChimeraError, match="is not on this machine"):
        _ = run.executed


def test_the_first_of_two_stays_unless_replaced(store):
    make(store, 1)
    make(store, 2)
    assert value(store) == 1
    make(store, 3, replace=True)
    assert value(store) == 3


@pytest.mark.parametrize("after", range(5))
def test_a_killed_upload_is_no_run_and_the_next_one_is_whole(store, after, monkeypatch):
    sent = []

    def upload(self, source, target):
        if len(sent) == after:
            raise KeyboardInterrupt
        sent.append(target)
        whole(self, source, target)

    whole = RemoteStore._upload
    with monkeypatch.context() as patch:
        patch.setattr(RemoteStore, "_upload", upload)
        with pytest.raises(KeyboardInterrupt):
            make(store, 1)
    assert len(sent) == after and value(store) is None and store.runs() == []
    make(store, 2)
    assert value(store) == 2


def test_a_cut_file_is_noticed(store):
    make(store)
    store._fs.pipe_file(f"{store._path}/quick/{NAME}/{ID}/tables/one.csv", b"a")
    assert value(store) is None


def test_a_replaced_run_is_never_seen_half_new(store, monkeypatch):
    make(store, 1)
    seen = []

    def upload(self, source, target):
        seen.append(value(store))
        whole(self, source, target)

    whole = RemoteStore._upload
    monkeypatch.setattr(RemoteStore, "_upload", upload)
    make(store, 2, replace=True)
    assert seen == [None] * 5


def test_what_cannot_be_uploaded_is_said(store, monkeypatch):
    def upload(self, source, target):
        raise ConnectionError("the line\nis dead")

    monkeypatch.setattr(RemoteStore, "_upload", upload)
    with pytest.raises(NotebookFailed, match=r"cannot be uploaded to .*: the line is dead"):
        make(store)


def test_addresses_that_cannot_be_used(bucket):
    with pytest.raises(ChimeraError, match=r"cannot be used: .*expected a folder, s3://bucket/folder"):
        open_store("gopher://x/y")
    with pytest.raises(ChimeraError, match=r"s3://no-such-bucket/x cannot be written to: .*another --output"):
        open_store("s3://no-such-bucket/x").check()
    mine = f"{bucket}/{uuid.uuid4().hex}"
    open_store(mine).check()
    assert open_store(mine)._fs.find(mine) == []


def test_a_run_goes_to_s3_and_is_reused(project, bucket):
    project.write(
        "images/01-first", "from chimera_lib.runs import record\nrecord(seed=seed)", parameters="seed: int = 2"
    )
    project.write("images/02-second", "1 / 0")
    output = f"{bucket}/{uuid.uuid4().hex}"
    kinds = []
    for _ in range(2):
        [run] = run_cells([Cell("images/01")], output=output, report=lambda event: kinds.append(event.kind))
    assert [kind for kind in kinds if kind != "cell"] == ["started", "finished", "reused"]
    assert run.metrics == {"seed": {"value": 2}} and str(run.folder).startswith(output)
    with pytest.raises(NotebookFailed, match=f"ZeroDivisionError.*see {output}/.failed/quick/images/02-second.ipynb"):
        run_cells([Cell("images/02")], output=output, report=kinds.append)
    assert not project.runs.exists()
