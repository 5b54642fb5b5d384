"""One checkout per test file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.checkout import Checkout, copy_project, example_models


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A checkout in which nothing has been started yet; whatever a test starts is stopped."""
    made = copy_project(tmp_path_factory.mktemp("checkout") / "project")
    try:
        yield made
    finally:
        made.run("cloud", "stop")


@pytest.fixture(scope="module")
def prepared(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The checkout with the example models, as they are after a first `make up`."""
    models = checkout.root / ".sandbox" / "models"
    shutil.copytree(example_models(tmp_path_factory), models, dirs_exist_ok=True)
    return checkout
