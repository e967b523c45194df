"""The node homes of a ``MemoryEngine``: orders to a node are a log that it reads with a cursor (E9)."""

from __future__ import annotations

from collections import deque

from ._engine_shared import EngineContext
from .operations import Order, Orders, OrdersWaiting, PostOrder, ReadOrders

_MAX_ORDERS = 100_000
"""Of a node that does not read them. What is lost then is a courtesy: the fences hold without it (E8)."""


class NodeHomes:
    """All nodes of one engine."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._orders: dict[str, deque[tuple[int, Order]]] = {}

    def post_order(self, operation: PostOrder) -> None:
        """Append an order to a node's log."""
        orders = self._orders.setdefault(operation.node, deque(maxlen=_MAX_ORDERS))
        orders.append((self._context.next_number(), operation.order))
        self._context.announce((operation.node,), OrdersWaiting())

    def read_orders(self, operation: ReadOrders) -> Orders:
        """What stands behind the cursor; what it has passed is forgotten."""
        orders = self._orders.get(operation.node)
        while orders and orders[0][0] <= operation.cursor:
            orders.popleft()
        if not orders:
            return Orders(cursor=operation.cursor, orders=())
        return Orders(cursor=orders[-1][0], orders=tuple(order for _, order in orders))
