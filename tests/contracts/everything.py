"""The whole contract of the store. An implementation's test file subclasses this and says how to make a store."""

from tests.contracts.event_types import EventTypeContract
from tests.contracts.integrations import IntegrationContract
from tests.contracts.retention import RetentionContract
from tests.contracts.search import SearchContract


class EveryContract(EventTypeContract, IntegrationContract, RetentionContract, SearchContract):
    """What every noun asks for."""
