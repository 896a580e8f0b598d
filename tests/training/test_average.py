import torch

from lumora.training.average import Average


def test_average__follows_its_formula():
    weight = torch.zeros(3)
    average = Average({"weight": weight}, decay=0.8)
    expected = torch.zeros(3)
    for step in range(50):
        weight += torch.randn(3)
        average.update(step)
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(average.values["weight"], expected)


def test_average__takes_the_weights_place_and_gives_it_back_bit_for_bit():
    weight = torch.randn(3, dtype=torch.bfloat16)
    before = weight.clone()
    average = Average({"weight": weight}, decay=0.8)
    average.values["weight"].fill_(7)
    try:
        with average.in_place():
            assert weight.tolist() == [7, 7, 7]
            raise KeyError
    except KeyError:
        assert torch.equal(weight, before)
