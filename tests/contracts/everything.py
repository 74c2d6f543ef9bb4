"""The whole contract of the store. An implementation's test file subclasses this and says how to make a store."""

from tests.contracts.consumers import ConsumerContract
from tests.contracts.deliveries import DeliveryContract
from tests.contracts.erasure import ErasureContract
from tests.contracts.event_types import EventTypeContract
from tests.contracts.integrations import IntegrationContract
from tests.contracts.notices import NoticeContract
from tests.contracts.replays import ReplayContract
from tests.contracts.retention import RetentionContract
from tests.contracts.search import SearchContract
from tests.contracts.statistics import StatisticsContract
from tests.contracts.tasks import TaskContract


class EveryContract(
    TaskContract,
    ConsumerContract,
    DeliveryContract,
    ReplayContract,
    ErasureContract,
    EventTypeContract,
    IntegrationContract,
    NoticeContract,
    StatisticsContract,
    RetentionContract,
    SearchContract,
):
    """What every noun asks for."""
