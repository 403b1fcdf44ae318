"""How a plan says that a model is trained."""

from vitrail.pipeline.methods import fit_choices, methods
from vitrail.training.settings import FitSettings


def test_every_value_is_one_of_the_trainings_settings(plan):
    FitSettings(**fit_choices(plan.values(), is_model=True))


def test_layers_near_the_picture_move_less_only_where_the_model_was_trained_before():
    assert methods(fine_tunes=True)["layer_decay"][0] == 0.75
    assert methods(fine_tunes=False)["layer_decay"][0] is None
    assert methods(fine_tunes=True, batch_norm=True)["layer_decay"][0] is None


def test_the_baseline_starts_untrained_and_has_no_layer_decay(plan):
    values = {**plan.values(), "layer_decay": 0.7}
    assert fit_choices(values, is_model=True)["layer_decay"] == 0.7
    assert fit_choices(values, is_model=False)["layer_decay"] is None
