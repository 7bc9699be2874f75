"""Packages that are installed on request: found, or named with the command that installs them."""

import json

import pytest

from keras_attn.base.optional import optional_module


def test_a_module_that_is_installed():
    assert optional_module("json.decoder", "serving") is json.decoder


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(
        ImportError, match=r'^`not_there` must be installed: pip install "keras-attn\[plot\]"\.$'
    ) as error:
        optional_module("not_there.at_all", "plot")
    assert isinstance(error.value.__cause__, ImportError)
