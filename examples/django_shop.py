"""A Django site that sends webhooks to its customers, in one file.

pip install tenterhook django
python django_shop.py runserver --noreload

curl -X POST 'localhost:8000/customers/acme?url=https://hooks.example.com/acme'
curl -X POST localhost:8000/orders/7/pay
"""

import atexit
import os
import sys

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from tenterhook import Tenterhook

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY=os.environ.get("SHOP_SECRET", "only for this example")
    )
    django.setup()

# With several worker processes, name a PostgreSQL database here: a SQLite file is for one process.
hooks = Tenterhook(
    os.environ.get("SHOP_HOOKS", "sqlite:///hooks.db"), allow_networks=os.environ.get("SHOP_ALLOW_NETWORKS", "none")
).open()
atexit.register(hooks.close)


def register(request: HttpRequest, customer: str) -> JsonResponse:
    """A customer says where its webhooks go, and gets the secret that verifies them."""
    hooks.application.get_or_create(customer, uid=customer)
    endpoint = hooks.endpoint.create(customer, request.GET["url"], event_types=["order.*"])
    return JsonResponse({"secret": hooks.endpoint.secret(customer, endpoint["id"])["key"]})


def pay(request: HttpRequest, order: int) -> JsonResponse:
    """The webhook is on the disk when this answers; it is delivered and retried in the background."""
    customer = request.GET.get("customer", "acme")
    message = hooks.send(customer, "order.paid", {"order": order}, event_id=f"order-{order}-paid")
    return JsonResponse({"message": message["id"]})


def webhooks(request: HttpRequest, message: str) -> JsonResponse:
    """What became of it."""
    attempts = hooks.each(hooks.attempt.of_message, request.GET.get("customer", "acme"), message)
    return JsonResponse({"attempts": [{"url": one["url"], "status": one["responseStatusCode"]} for one in attempts]})


urlpatterns = [
    path("customers/<str:customer>", register),
    path("orders/<int:order>/pay", pay),
    path("orders/<str:message>/webhooks", webhooks),
]
application = get_wsgi_application()

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
