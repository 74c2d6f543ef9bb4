"""A FastAPI application that sends webhooks to its customers, without a server beside it.

pip install tenterhook fastapi uvicorn
uvicorn fastapi_shop:app

curl -X POST localhost:8000/customers/acme -d url=https://hooks.example.com/acme
curl -X POST localhost:8000/orders/7/pay
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from tenterhook import AsyncTenterhook

hooks = AsyncTenterhook(
    os.environ.get("SHOP_HOOKS", "sqlite:///hooks.db"), allow_networks=os.environ.get("SHOP_ALLOW_NETWORKS", "none")
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with hooks:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/customers/{customer}")
async def register(customer: str, url: str) -> dict[str, str]:
    """A customer says where its webhooks go, and gets the secret that verifies them."""
    await hooks.application.get_or_create(customer, uid=customer)
    endpoint = await hooks.endpoint.create(customer, url, event_types=["order.*"])
    return {"secret": (await hooks.endpoint.secret(customer, endpoint["id"]))["key"]}


@app.post("/orders/{order}/pay")
async def pay(order: int, customer: str = "acme") -> dict[str, str]:
    """The webhook is on the disk when this answers; it is delivered and retried in the background."""
    message = await hooks.send(customer, "order.paid", {"order": order}, event_id=f"order-{order}-paid")
    return {"message": message["id"]}


@app.get("/orders/{message}/webhooks")
async def webhooks(message: str, customer: str = "acme") -> list[dict[str, object]]:
    """What became of it."""
    attempts = hooks.each(hooks.attempt.of_message, customer, message)
    return [{"url": one["url"], "status": one["responseStatusCode"]} async for one in attempts]
