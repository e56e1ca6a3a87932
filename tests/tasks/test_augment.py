"""Augmentation: each kind compared with a slow version for single images, and errors."""

import numpy as np
import pytest
import torch
from scipy import stats

from sweeper.tasks.augment import CROP, CUTOUT, FLIP, MIXUP, augmentation

LANES, BATCH, CHANNELS, SIDE, CLASSES = 2, 50, 3, 8, 5


class Draws:
    """Random numbers that the test knows."""

    def __init__(self):
        draw = torch.Generator().manual_seed(0)
        self.by_number = {number: torch.rand(LANES, BATCH, 2, generator=draw) for number in range(4)}

    def __call__(self, number, count):
        return self.by_number[number][..., :count]


DRAWS = Draws()


@pytest.fixture(scope="module")
def batch():
    draw = torch.Generator().manual_seed(1)
    inputs_LB = torch.randn(LANES, BATCH, CHANNELS, SIDE, SIDE, generator=draw)
    return inputs_LB, torch.randint(0, CLASSES, (LANES, BATCH), generator=draw)


def augment(label_smoothing=0.0, **options):
    return augmentation(options, label_smoothing, CLASSES, SIDE, SIDE)


def images(inputs_LB):
    """Yield lane, example and image of each."""
    return [(lane, at, inputs_LB[lane, at]) for lane in range(LANES) for at in range(BATCH)]


def whole(uniform, count):
    return min(int(uniform * count), count - 1)


def test_crop_pads_and_cuts_out(batch):
    inputs_LB, target_LB = batch
    moved_LB, target = augment(crop=2)(inputs_LB, target_LB, DRAWS)
    assert torch.equal(target, target_LB)
    seen = set()
    for lane, at, image in images(inputs_LB):
        top, left = (whole(uniform, 5) for uniform in DRAWS.by_number[CROP][lane, at])
        padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
        assert torch.equal(moved_LB[lane, at], padded[:, top : top + SIDE, left : left + SIDE])
        seen.add((top, left))
    assert len(seen) == 25


def test_flip_mirrors_about_half(batch):
    inputs_LB, target_LB = batch
    moved_LB, _ = augment(flip=True)(inputs_LB, target_LB, DRAWS)
    flipped_LB = DRAWS.by_number[FLIP][..., 0] < 0.5
    assert 30 < flipped_LB.sum() < 70
    for lane, at, image in images(inputs_LB):
        assert torch.equal(moved_LB[lane, at], image.flip(-1) if flipped_LB[lane, at] else image)


@pytest.mark.parametrize("side", [1, 3, 4, 8])
def test_cutout_blanks_a_square_as_far_as_it_lies_in_the_image(batch, side):
    inputs_LB, target_LB = batch
    moved_LB, _ = augment(cutout=side)(inputs_LB, target_LB, DRAWS)
    for lane, at, image in images(inputs_LB):
        expected = image.clone()
        row, column = (whole(uniform, SIDE) - side // 2 for uniform in DRAWS.by_number[CUTOUT][lane, at])
        expected[:, max(0, row) : max(0, row + side), max(0, column) : max(0, column + side)] = 0
        assert torch.equal(moved_LB[lane, at], expected)


def test_all_together_crop_then_flip_then_cutout(batch):
    inputs_LB, target_LB = batch
    together_LB, _ = augment(crop=3, flip=True, cutout=3)(inputs_LB, target_LB, DRAWS)
    one_LB = inputs_LB
    for options in ({"crop": 3}, {"flip": True}, {"cutout": 3}):
        one_LB, _ = augment(**options)(one_LB, target_LB, DRAWS)
    assert torch.equal(together_LB, one_LB)


def test_mixup_mixes_each_example_and_its_target_with_the_one_before(batch):
    inputs_LB, target_LB = batch
    mixed_LB, soft_LB = augment(mixup=0.4)(inputs_LB, target_LB, DRAWS)
    assert soft_LB.shape == (LANES, BATCH, CLASSES)
    torch.testing.assert_close(soft_LB.sum(-1), torch.ones(LANES, BATCH))
    sure_LB = torch.nn.functional.one_hot(target_LB, CLASSES)
    for lane, at, image in images(inputs_LB):
        weight = stats.beta.ppf((whole(DRAWS.by_number[MIXUP][lane, at, 0], 4096) + 0.5) / 4096, 0.4, 0.4)
        torch.testing.assert_close(
            mixed_LB[lane, at], (weight * image + (1 - weight) * inputs_LB[lane, at - 1]).float()
        )
        expected = weight * sure_LB[lane, at] + (1 - weight) * sure_LB[lane, at - 1]
        torch.testing.assert_close(soft_LB[lane, at], expected.float())


def test_mixups_weights_are_of_the_beta_distribution():
    weight_Q = augment(mixup=0.3).quantile_Q.double().numpy()
    assert stats.kstest(weight_Q, stats.beta(0.3, 0.3).cdf).statistic < 5e-3  # the float32 next to 1
    assert weight_Q.mean() == pytest.approx(0.5, abs=1e-6)


def test_label_smoothing_is_torchs(batch):
    inputs_LB, target_LB = batch
    same_LB, soft_LB = augment(label_smoothing=0.1)(inputs_LB, target_LB, DRAWS)
    assert torch.equal(same_LB, inputs_LB)
    output = torch.randn(LANES * BATCH, CLASSES, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        torch.nn.functional.cross_entropy(output, soft_LB.flatten(0, 1)),
        torch.nn.functional.cross_entropy(output, target_LB.flatten(), label_smoothing=0.1),
    )


def test_lanes_do_not_see_each_other(batch):
    inputs_LB, target_LB = batch
    both = augment(crop=2, flip=True, cutout=3, mixup=0.4, label_smoothing=0.1)
    together = both(inputs_LB, target_LB, DRAWS)
    for lane in range(LANES):
        alone = both(
            inputs_LB[lane : lane + 1], target_LB[lane : lane + 1], lambda n, c, lane=lane: DRAWS(n, c)[lane : lane + 1]
        )
        assert all(torch.equal(one[0], two[lane]) for one, two in zip(alone, together, strict=True))


@pytest.mark.parametrize("options", [None, {}, {"crop": 0, "flip": False, "cutout": 0, "mixup": 0}])
def test_nothing_asked_for_is_no_augmentation(options):
    assert augmentation(options, 0.0, CLASSES, SIDE, SIDE) is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("crop", "data.augment=crop: not a mapping"),
        ({"zoom": 2}, "data.augment.zoom=2: there is no such augmentation. Choose from crop, flip, cutout, mixup"),
        ({"crop": -1}, "data.augment.crop=-1: not a count"),
        ({"crop": 9}, "data.augment.crop=9: larger than the images. Choose at most 8"),
        ({"cutout": 1.5}, "data.augment.cutout=1.5: not a count"),
        ({"flip": 1}, "data.augment.flip=1: neither true nor false"),
        ({"mixup": -0.1}, "data.augment.mixup=-0.1: must be the parameter of a Beta distribution"),
        ({"mixup": np.nan}, "data.augment.mixup=nan: must be the parameter of a Beta distribution"),
        ({"mixup": True}, "data.augment.mixup=True: must be the parameter of a Beta distribution"),
    ],
)
def test_what_is_refused(options, told):
    with pytest.raises(ValueError, match=r"data\.augment") as error:
        augmentation(options, 0.0, CLASSES, SIDE, SIDE)
    assert told in str(error.value)


@pytest.mark.parametrize("value", [-0.1, 1, "0.1"])
def test_label_smoothing_that_is_refused(value):
    with pytest.raises(ValueError, match=f"data.label_smoothing={value}: must be in"):
        augmentation({}, value, CLASSES, SIDE, SIDE)
