"""A whole training in Stable Diffusion 1.5's layout: it learns, and what it learnt is in the file."""

import pytest
import torch

from hybridbooth_core.bases.training import training_bases
from hybridbooth_core.probe.probe import Probe
from hybridbooth_core.training.config import ProbeShape
from hybridbooth_core.training.metrics import read_curve
from hybridbooth_core.training.trainer import Trainer
from hybridbooth_core.training.validation import Validation

SHAPES = {"promptnet": {"pooled": 8}, "resampler": {"layers": 1, "heads": 4}}


@pytest.mark.slow
@pytest.mark.parametrize("regressor", SHAPES)
def test_twenty_steps_lower_the_loss_on_fixed_noise_and_are_saved(regressor, configured, tmp_path):
    config = configured(probe=ProbeShape(regressor, num_tokens=3, sizes=SHAPES[regressor]))
    context, probe, callbacks = training_bases().prepare(config, torch.device("cpu"))
    frozen = {name: tensor.clone() for name, tensor in context.model.unet.state_dict().items()}
    validation = Validation(config, context)
    before = validation.rows(probe)
    trained = Trainer(config, context, probe, callbacks).run()
    after = validation.rows(trained)
    fallen = before - after
    assert len(fallen) == 12 and fallen.mean() > 2 * fallen.std() / 12**0.5 and after.mean() < validation.noun.mean()
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in context.model.unet.state_dict().items())
    assert read_curve(config.out)[-1]["validation"] == pytest.approx(after.mean().item(), rel=1e-4)
    trained.save(tmp_path / "probe.safetensors", half=False)
    loaded = Probe.load(tmp_path / "probe.safetensors")
    inputs = context.inputs(trained, context.source.held_out(4)[0])
    torch.testing.assert_close(loaded(inputs.features, inputs.nouns), trained(inputs.features, inputs.nouns))
    assert loaded.config == trained.config and "CC-BY-4.0 (8), unknown (4)" in loaded.about()
