"""Assertions of the modules beside the tests tell what they compared, too."""

import pytest

pytest.register_assert_rewrite("scenarios.adapter", "scenarios.rules")
