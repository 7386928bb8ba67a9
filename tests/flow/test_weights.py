import torch
from thinc.api import Adam

from trfnb.flow.weights import EncoderShim


def test_a_step_changes_the_weights_where_they_lie(tiny):
    shim = EncoderShim(tiny)
    shim.load()
    body = shim.loaded()
    for parameter in body.parameters():  # storage of torch's own, as after moving to a device
        parameter.data = parameter.data.clone()
        parameter.grad = torch.ones_like(parameter)
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in body.named_parameters()}
    shim.has_gradient = True
    shim.finish_update(Adam(0.01))
    for name, parameter in body.named_parameters():
        place, value = before[name]
        assert parameter.data_ptr() == place
        assert not torch.equal(parameter, value)
        # A view of a NumPy array would not be; each step would then hold on to the one before.
        assert parameter.untyped_storage().resizable()
