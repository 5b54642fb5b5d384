"""The drawn images."""

from __future__ import annotations

import numpy as np
import pytest

from sandbox.model_server import example_images
from sandbox.model_server.example_images import FASHION_CLASSES, fashion_mnist, generated


def test_there_is_a_name_for_each_of_the_ten_classes() -> None:
    assert len(FASHION_CLASSES) == len(set(FASHION_CLASSES)) == 10
    assert FASHION_CLASSES[0] == "T-shirt/top"
    assert FASHION_CLASSES[9] == "Ankle boot"


def test_images_have_the_shape_and_range_of_the_real_ones() -> None:
    images, labels = generated(40, seed=1)
    assert images.shape == (40, 28, 28, 1)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert 0.5 < images.max() <= 1
    assert sorted(set(labels.tolist())) == list(range(10))


def test_equal_seeds_give_equal_images_and_others_do_not() -> None:
    assert np.array_equal(generated(20, seed=1)[0], generated(20, seed=1)[0])
    assert not np.array_equal(generated(20, seed=1)[0], generated(20, seed=2)[0])


def test_images_of_one_class_look_more_like_each_other_than_like_other_classes() -> None:
    images, labels = generated(400, seed=3)
    means = np.stack([images[labels == number].mean(axis=0) for number in range(10)])
    nearest = [int(np.argmin(((means - image) ** 2).sum(axis=(1, 2, 3)))) for image in images]
    assert np.mean(nearest == labels) > 0.7


def test_without_cache_and_network_there_is_no_real_data_set(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(example_images, "_DOWNLOAD_HOST", "127.0.0.1.invalid")
    assert fashion_mnist(10) is None
