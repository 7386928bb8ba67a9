import weakref

import torch

from trfnb.flow.weights import EncoderShim


def test_a_step_changes_the_weights_where_they_lie_and_holds_on_to_nothing(tiny):
    shim = EncoderShim(tiny)
    shim.load()
    before = {
        name: (p.data_ptr(), p.detach().clone()) for name, p in shim.loaded().named_parameters()
    }
    for parameter in shim.loaded().parameters():
        parameter.grad = torch.ones_like(parameter)
    shim.has_gradient = True
    seen = []

    def step(key, array, gradient):
        seen.append(weakref.ref(array))
        array -= gradient
        return array, gradient

    shim.finish_update(step)
    for name, parameter in shim.loaded().named_parameters():
        place, value = before[name]
        assert parameter.data_ptr() == place
        assert torch.equal(parameter, value - 1)
    # A weight that lives in the optimiser's array keeps that of every earlier step alive.
    assert len(seen) == len(before)
    assert not any(array() is not None for array in seen)
