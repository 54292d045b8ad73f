import random

import numpy as np
import pytest
import torch
from transformers import set_seed

from qwen2vl_rs.hardware.randomness import preserve_random_state


def numbers():
    return random.random(), np.random.rand(), float(torch.rand(()))


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_seeds_that_are_set_inside_change_nothing_outside(error):
    set_seed(1)
    expected = [numbers(), numbers()]
    set_seed(1)
    found = [numbers()]
    try:
        with preserve_random_state:
            set_seed(7)
            assert numbers() not in expected
            if error:
                raise error
    except KeyboardInterrupt:
        pass
    assert [*found, numbers()] == expected
