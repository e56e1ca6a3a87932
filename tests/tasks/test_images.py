"""Labeled images: parts, normalization, bytes on the device, errors."""

import pickle

import numpy as np
import pytest
import torch

from sweeper.tasks.images import Images, LabeledImages

CPU = torch.device("cpu")


def labeled(count=40, seed=0, shape=(3, 6, 5)):
    draw = np.random.default_rng(seed)
    scale = np.array([40, 120, 256])[: shape[0], None, None]  # channels with different brightness
    pixels = (draw.random((count, *shape)) * scale).astype(np.uint8)
    return LabeledImages(pixels, draw.integers(0, 4, count, dtype=np.uint8))


def images(**options):
    return Images(labeled(), labeled(10, 1), **{"classes": 4, "valid": 0.25} | options)


def whole(data, part):
    return data.fetch(part, 0, torch.arange(data.size(part, 0)))


def test_parts_share_no_image_and_leave_none_out():
    data = images()
    assert [data.size(part, 0) for part in ("train", "valid", "test")] == [30, 10, 10]
    pixels = torch.cat([whole(data, part)[0] for part in ("train", "valid")])
    found = sorted(map(bytes, (pixels * data._moments_K[0][1] + data._moments_K[0][0]).round().byte().numpy()))
    assert found == sorted(map(bytes, labeled().pixels))


def test_the_test_part_is_the_test_files_in_their_order():
    data = images()
    pixels, label = whole(data, "test")
    assert (label.numpy() == labeled(10, 1).label).all()
    assert ((pixels * data._moments_K[0][1] + data._moments_K[0][0]).round().numpy() == labeled(10, 1).pixels).all()
    assert pixels.dtype == torch.float32
    assert label.dtype == torch.int64


def test_channels_are_normalised_by_the_training_part_alone():
    data = images()
    pixels, _ = whole(data, "train")
    torch.testing.assert_close(pixels.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(pixels.std((0, 2, 3), correction=0), torch.ones(3))
    raw = labeled().pixels
    assert not np.allclose(data._moments_K[0][0].flatten().numpy(), raw.mean((0, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("stream", [False, True])
def test_folds_validate_each_image_once_with_moments_of_their_own(stream):
    data = images(folds=4, stream=stream)
    assert data.partitions == 4
    found = []
    for fold in range(4):
        (train, _), (valid, _) = (
            data.fetch(part, fold, torch.arange(data.size(part, fold))) for part in ("train", "valid")
        )
        torch.testing.assert_close(train.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
        mean, deviation = data._moments_K[fold]
        found += map(bytes, (valid * deviation + mean).round().byte().numpy())
    assert sorted(found) == sorted(map(bytes, labeled().pixels))
    assert len({float(mean[0]) for mean, _ in data._moments_K}) == 4
    if stream:
        ((x, _),) = data.stream("train", 2, np.array([[5, 1]]))
        assert torch.equal(x, data.fetch("train", 2, torch.tensor([5, 1]))[0])


def test_a_channel_of_one_colour_gives_zeros():
    flat = LabeledImages(np.full((8, 1, 2, 2), 7, np.uint8), np.zeros(8, np.uint8))
    data = Images(flat, flat, classes=2, valid=0.25)
    assert not whole(data, "train")[0].any()


def test_what_models_are_told():
    data = images()
    assert (data.inputs, data.outputs, data.shape, data.partitions) == (90, 4, (3, 6, 5), 1)


def test_images_stay_bytes_on_the_device():
    placed = images().to(CPU)
    assert placed._trained.x_N.dtype == torch.uint8


def test_the_fingerprint_tells_images_splits_and_augmentation_apart():
    other = labeled()
    other.pixels[3, 0, 0, 0] ^= 1
    data = [
        images(),
        images(split_seed=1),
        images(valid=0.5),
        images(augment={"flip": True}),
        images(augment={"crop": 1}),
        images(label_smoothing=0.1),
        images(folds=3),
        Images(other, labeled(10, 1), classes=4, valid=0.25),
    ]
    assert len({one.fingerprint for one in data}) == len(data)
    assert images().fingerprint == images(stream=True).fingerprint == images(augment={"crop": 0}).fingerprint


def test_it_travels_by_pickle():
    data = images(augment={"crop": 1, "mixup": 0.2}, stream=True)
    list(data.stream("train", 0, np.arange(4).reshape(2, 2)))
    again = pickle.loads(pickle.dumps(data))
    assert all(torch.equal(a, b) for a, b in zip(whole(data, "train"), whole(again, "train"), strict=True))


def test_streamed_images_are_the_resident_ones():
    order_SB = np.random.default_rng(0).integers(0, 30, (5, 4))
    data, resident = images(stream=True).to(CPU), images().to(CPU)
    assert resident.stream is None
    for (x, y), index_B in zip(data.stream("train", 0, order_SB), order_SB, strict=True):
        expected = resident.fetch("train", 0, torch.from_numpy(index_B))
        assert torch.equal(x, expected[0])
        assert torch.equal(y, expected[1])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"valid": 0}, "data.valid=0: a part of the 40 training images would be empty"),
        ({"valid": 1.0}, "data.valid=1.0: a part"),
        ({"valid": 0.001}, "data.valid=0.001: a part"),
        ({"valid": True}, "data.valid=True: a part"),
        ({"split_seed": -1}, "data.split_seed=-1: not a valid seed"),
        ({"stream": -1}, "data.stream=-1: must be true, false or a number of processes"),
        ({"stream": "yes"}, "data.stream=yes: must be true"),
        ({"augment": {"crop": 6}}, "data.augment.crop=6: larger than the images"),
    ],
)
def test_what_is_refused(options, told):
    with pytest.raises(ValueError, match="data") as error:
        images(**options)
    assert told in str(error.value)
