import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.postgres", "tests.houses"]
pytest.register_assert_rewrite("tests.contracts")

# a busy machine is not a defect: how long an example takes says nothing, and every run has the same examples;
# `pytest --hypothesis-profile=search` looks for others
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("same", settings.get_profile("search"), derandomize=True, database=None)
settings.load_profile("same")
