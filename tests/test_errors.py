"""Errors as data: one record, worded for Python and for the command line, whole after a trip between processes."""

from __future__ import annotations

import pickle

import pytest

from torso.errors import PartError, mismatch


def _error() -> PartError:
    return PartError(
        "FCOSHead needs a level of stride 4; the levels here have strides [8, 16]",
        remedies=({"head.finest": 8}, {"head.finest": 8, "criterion.assigner": "atss"}, "choose another head"),
    )


def test_python_reads_arguments() -> None:
    assert str(_error()).endswith(
        "[8, 16]: set head.finest=8, or set head.finest=8 and criterion.assigner='atss', or choose another head"
    )
    assert str(PartError("nothing helps")) == "nothing helps"


def test_remedies_can_be_worded_otherwise() -> None:
    flags = _error().worded(lambda settings: "add " + " ".join(f"--{k}={v}" for k, v in settings.items()))
    assert "add --head.finest=8 --criterion.assigner=atss, or choose another head" in flags


def test_an_error_of_an_inner_part_names_the_outer_paths() -> None:
    inner = _error().within({"head": "head.proposer", "criterion": "criterion.first"}, "the proposer: {}")
    assert inner.remedies[1] == {"head.proposer.finest": 8, "criterion.first.assigner": "atss"}
    assert str(inner).startswith("the proposer: FCOSHead needs")
    kept = PartError("x", remedies=({"header.finest": 1},)).within({"head": "head.proposer"})
    assert kept.remedies == ({"header.finest": 1},), "a path is replaced at its dots only"


def test_a_mismatch_says_expected_and_got() -> None:
    error = mismatch("Predictor.batch_size", "a whole number of at least 1", 0)
    assert str(error) == "Predictor.batch_size: expected a whole number of at least 1, got 0"
    assert (error.argument, error.got) == ("Predictor.batch_size", 0)
    with pytest.raises(ValueError, match="batch_size"):
        raise error


def test_errors_survive_another_process() -> None:
    error = pickle.loads(pickle.dumps(_error()))
    assert str(error) == str(_error())
    assert error.remedies == _error().remedies
