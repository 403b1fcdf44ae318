"""A method is registered with its keyword parameters and found by its name."""

import pytest

from vitrail.errors import MethodError
from vitrail.explain import methods
from vitrail.explain.registry import find_method

EVERY = {
    "attn_lrp", "cp_lrp", "grad_cam", "gradient_rollout", "input_x_gradient",
    "integrated_gradients", "legrad", "libra", "occlusion", "raw_attention", "relevance", "rise",
    "rollout", "smooth_grad", "token_drop", "transformer_attribution",
}  # fmt: skip


def test_the_table_is_complete_and_sorted():
    assert list(methods()) == sorted(EVERY)


def test_changing_the_table_that_was_handed_out_changes_nothing():
    methods().clear()
    assert list(methods()) == sorted(EVERY)


def test_a_rows_parameters_are_the_keyword_arguments_with_their_defaults():
    assert dict(find_method("gradient_rollout").parameters) == {
        "discard_ratio": 0.0,
        "start_layer": 0,
    }


def test_given_parameters_win_over_defaults():
    assert find_method("relevance").settle({"start_layer": 3}) == {"start_layer": 3}


def test_a_method_without_parameters_says_so():
    with pytest.raises(MethodError, match="its parameters are: none; leave it out"):
        find_method("input_x_gradient").settle({"steps": 3})


def test_only_two_maps_know_no_class():
    assert {name for name, method in methods().items() if not method.class_specific} == {
        "raw_attention",
        "rollout",
    }
