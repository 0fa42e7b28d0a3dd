"""A sweep file is read as it is meant, and every mistake in one is said in one line."""

from __future__ import annotations

import json
import re

import pytest

from chimera_lib.errors import ChimeraError
from chimera_lib.runs import sweep_file
from chimera_lib.runs.sweep import plan_of, preview
from chimera_lib.runs.words import fill

NOTEBOOK = "name: seeds\nnotebook: images/01\n"
COMMAND = "name: laws\ncommand: [prion, run, --seed, '{seed}', --output-dir, '{output}']\n"


def read(folder, text):
    path = folder / "sweep.yml"
    path.write_text(text)
    return sweep_file.read(path)


def test_every_combination_is_a_cell(tmp_path):
    text = NOTEBOOK + "grid: {seed: [0, 1], rate: [0.5, 1.0]}\nzip: {a: [1, 2], b: [x, y]}\ncells: [{c: 1}, {c: 2}]\n"
    rows = read(tmp_path, text).rows
    assert len(rows) == len({json.dumps(row) for row in rows}) == 16
    assert rows[0] == {"seed": 0, "rate": 0.5, "a": 1, "b": "x", "c": 1}
    assert rows[-1] == {"seed": 1, "rate": 1.0, "a": 2, "b": "y", "c": 2}
    assert {(row["a"], row["b"]) for row in rows} == {(1, "x"), (2, "y")}


def test_settings_are_read_and_left_to_the_engine(tmp_path):
    sweep = read(tmp_path, NOTEBOOK + "grid: {seed: [0]}\ntimeout: 2.5\nretries: 0\nengine: ray\nprofile: full\n")
    assert (sweep.timeout, sweep.retries, sweep.profile, sweep.output) == (2.5, 0, "full", None)
    assert plan_of(sweep).jobs == 0, "as many as the cluster holds"
    assert plan_of(read(tmp_path, NOTEBOOK + "grid: {seed: [0]}\n")).jobs == 1


def test_a_command_gets_its_words(tmp_path, project):
    text = COMMAND.replace("--seed", "'{shield}', --seed")
    text += "grid: {seed: [0, 1], shield: [[--quantization, 4bit], [--force-fft]]}\n"
    jobs = read(tmp_path, text).jobs_of(project.root)
    assert [job.words for job in jobs[:2]] == [
        ("prion", "run", "--quantization", "4bit", "--seed", "0", "--output-dir", "{output}"),
        ("prion", "run", "--force-fft", "--seed", "0", "--output-dir", "{output}"),
    ]
    assert jobs[0].name == "prion/run" and jobs[0].label == "prion/run seed=0 shield=--quantization 4bit"
    assert len({job.id for job in jobs}) == 4
    renamed = read(tmp_path, text.replace("laws", "rules")).jobs_of(project.root)
    assert [job.id for job in renamed] == [job.id for job in jobs]
    other = read(tmp_path, text.replace("--force-fft", "--force")).jobs_of(project.root)
    assert [a.id == b.id for a, b in zip(jobs, other, strict=True)] == [True, False, True, False]


def test_braces_that_are_no_place_stay():
    assert fill(["--json", '{"a": 1}', "{x}y{x}"], {"x": True}) == ["--json", '{"a": 1}', "trueytrue"]


MISTAKES = {
    "unknown key of": NOTEBOOK + "grdi: {seed: [0]}",
    "did you mean 'grid'": NOTEBOOK + "grdi: {seed: [0]}",
    "name is None; expected a text": "notebook: images/01\ngrid: {seed: [0]}",
    "name is '../x'; expected letters": "name: ../x\nnotebook: images/01\ngrid: {seed: [0]}",
    "is not YAML": "name: [",
    "is not a sweep": "- 1",
    "not neither": "name: x\ngrid: {seed: [0]}",
    "not both": COMMAND + "notebook: images/01\ngrid: {seed: [0]}",
    "has no values to go through": NOTEBOOK,
    "grid is {}": NOTEBOOK + "grid: {}",
    "grid seed is []": NOTEBOOK + "grid: {seed: []}",
    "grid seed is 3": NOTEBOOK + "grid: {seed: 3}",
    "seed has the value datetime.date": NOTEBOOK + "grid: {seed: [2020-01-01]}",
    "their lengths are {'a': 2, 'b': 1}": NOTEBOOK + "zip: {a: [1, 2], b: [1]}",
    "seed has values in two of": NOTEBOOK + "grid: {seed: [0]}\nzip: {seed: [1]}",
    "cell 2 has values for b": NOTEBOOK + "cells: [{a: 1}, {b: 1}]",
    "cells is []": NOTEBOOK + "cells: []",
    "'output' cannot be the name": NOTEBOOK + "grid: {output: [1]}",
    "expected {output} among its words": "name: x\ncommand: [prion, run, '{seed}']\ngrid: {seed: [0]}",
    "unknown name in braces": COMMAND + "grid: {sede: [0]}",
    "steps has values but no place": COMMAND + "grid: {seed: [0], steps: [1]}",
    "seed has the value None": COMMAND + "grid: {seed: [null]}",
    "command is 'prion run'; expected a list": "name: x\ncommand: prion run\ngrid: {seed: [0]}",
    "profile is 'full'; expected no such key": COMMAND + "profile: full\ngrid: {seed: [0]}",
    "assets is ['x']; expected no such key": NOTEBOOK + "assets: [x]\ngrid: {seed: [0]}",
    "retries is -1; expected a whole number, 0 or more": NOTEBOOK + "grid: {seed: [0]}\nretries: -1",
    "timeout is 0;": NOTEBOOK + "grid: {seed: [0]}\ntimeout: 0",
    "jobs is 1.5;": NOTEBOOK + "grid: {seed: [0]}\njobs: 1.5",
    "gpus_per_run is True;": NOTEBOOK + "grid: {seed: [0]}\ngpus_per_run: true",
    "output is 3; expected a text": NOTEBOOK + "grid: {seed: [0]}\noutput: 3",
}
LATER = {  # found when the notebooks are looked up
    "unknown notebook 'images/07'": "name: x\nnotebook: images/07\ngrid: {seed: [0]}",
    "unknown parameter of images/01-first 'sede' (did you mean 'seed'?)": NOTEBOOK + "grid: {sede: [0]}",
    "parameter 'seed' of images/01-first is int, not 'many'": NOTEBOOK + "grid: {seed: [many]}",
    "cells 1 and 3 are the same (images/01-first seed=0)": NOTEBOOK + "grid: {seed: [0, 1, 0]}",
    "name 'quick' is that of a profile": "name: quick\nnotebook: images/01\ngrid: {seed: [0]}",
    "unknown profile 'ful'": NOTEBOOK + "profile: ful\ngrid: {seed: [0]}",
    "command 'doctor {seed} {output}' is none": "name: x\ncommand: [doctor, '{seed}', '{output}']\ngrid: {seed: [0]}",
    "unknown asset 'nothing'": COMMAND + "assets: [nothing]\ngrid: {seed: [0]}",
    "unknown engine 'cloud'": NOTEBOOK + "grid: {seed: [0]}\nengine: cloud",
    "address 'auto' is of a Ray cluster": NOTEBOOK + "grid: {seed: [0]}\naddress: auto",
    "gpus_per_run is 1.5; expected": NOTEBOOK + "grid: {seed: [0]}\ngpus_per_run: 1.5",
}


@pytest.mark.parametrize("said", [*MISTAKES, *LATER])
def test_a_mistake_is_said_in_one_line(tmp_path, project, said):
    project.write("images/01-first", "1", parameters="seed: int = 5")
    with pytest.raises(ChimeraError, match=re.escape(said)) as caught:
        preview(read(tmp_path, {**MISTAKES, **LATER}[said]), project.root)
    assert "\n" not in str(caught.value)
    assert not project.runs.exists()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ChimeraError, match=r"none\.yml cannot be read: .*expected a sweep file"):
        sweep_file.read(tmp_path / "none.yml")
