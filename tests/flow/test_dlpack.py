"""cupy and torch share memory, so that nothing is copied between a listener and the encoder."""

import pytest
import torch
from thinc.api import torch2xp, xp2torch

from trfnb.device import missing_for_gpu


@pytest.mark.gpu
def test_arrays_go_back_and_forth_without_a_copy():
    cupy = pytest.importorskip("cupy")
    if missing_for_gpu():
        pytest.skip(missing_for_gpu())
    tensor = torch.arange(6, dtype=torch.float32, device="cuda").reshape(2, 3)
    array = torch2xp(tensor)
    assert isinstance(array, cupy.ndarray)
    array[0, 0] = 7
    again = xp2torch(array, device=tensor.device)
    assert again.data_ptr() == tensor.data_ptr()
    assert tensor[0, 0].item() == 7


def test_so_do_numpy_and_torch():
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    array = torch2xp(tensor)
    array[0, 0] = 7
    assert xp2torch(array).data_ptr() == tensor.data_ptr()
    assert tensor[0, 0].item() == 7
