"""`python -m tenterhook.api` prints the OpenAPI document."""

import sys

from tenterhook.api.app import ROUTES
from tenterhook.api.openapi import encoded

sys.stdout.buffer.write(encoded(ROUTES))
