"""The exception tree keeps its promises."""

import inspect
import pickle

import pytest

from vitrail import errors

LEAVES = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, errors.VitrailError) and error is not errors.VitrailError
]


@pytest.mark.parametrize("error", LEAVES)
def test_every_leaf_is_also_a_builtin_that_callers_already_catch(error):
    builtins = [base for base in error.__mro__ if base.__module__ == "builtins"]
    assert builtins[0] is not Exception


@pytest.mark.parametrize("error", LEAVES)
def test_the_message_holds_its_four_parts_in_order(error):
    assert str(error("size", "3", "it must be even", "pass 4")) == (
        "size: 3; it must be even; pass 4"
    )


@pytest.mark.parametrize("error", LEAVES)
def test_the_docstring_draws_every_error(error):
    assert f"{error.__name__} (" in errors.__doc__ or f"{error.__name__} " in errors.__doc__


@pytest.mark.parametrize("error", LEAVES)
def test_an_error_survives_a_worker_process(error):
    first = error("size", "3", "it must be even", "pass 4")
    second = pickle.loads(pickle.dumps(first))
    assert type(second) is error
    assert str(second) == str(first)
