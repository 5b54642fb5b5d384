"""The drawn images."""

from __future__ import annotations

import numpy as np
import pytest

from ops.predict_answer import FASHION_MNIST
from sandbox.model_server import example_images
from sandbox.model_server.example_images import FASHION_CLASSES, fashion_mnist, generated


def test_the_classes_are_those_by_which_answers_are_shown() -> None:
    assert FASHION_CLASSES == FASHION_MNIST
    assert len(set(FASHION_CLASSES)) == 10


def test_a_shirt_is_drawn_where_the_real_data_set_has_shirts() -> None:
    images, labels = generated(200, seed=4)
    mean = {name: images[labels == number].mean(axis=0) for number, name in enumerate(FASHION_CLASSES)}
    assert np.abs(mean["Shirt"] - mean["T-shirt/top"]).mean() < 0.1
    assert np.abs(mean["Sneaker"] - mean["Sandal"]).mean() < np.abs(mean["Sneaker"] - mean["Shirt"]).mean()


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
