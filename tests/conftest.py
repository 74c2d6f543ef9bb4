import pytest

pytest_plugins = ["tests.postgres"]
pytest.register_assert_rewrite("tests.contracts")
