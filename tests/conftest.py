import pytest

pytest_plugins = ["tests.postgres", "tests.houses"]
pytest.register_assert_rewrite("tests.contracts")
