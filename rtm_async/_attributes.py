"""The calls of a client that concern attributes (S39): the same names and parameters in both frontends."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from rtm_sansio.checks import kept
from rtm_sansio.client import ClientCore
from rtm_sansio.events import AttributeSnapshot, AttributesReceipt


class AttributeCalls(abc.ABC):
    """A part of ``Client``."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def _commands(self) -> ClientCore:
        """The core, for its commands."""

    @abc.abstractmethod
    async def _ask(self, command: Callable[..., int], timeout: float | None) -> Any:
        """Give the core a command, and wait for its end."""

    # --- of users

    async def set_attributes(
        self, attributes: Mapping[str, str], *, expected_revision: int | None = None, timeout: float | None = None
    ) -> AttributesReceipt:
        """Replace one's own attributes by these; returns when the server has done it, with their revision (S39).

        Keys have 1 to 32 bytes, values up to 8 KiB, and there are up to 32 in a call and 16 KiB in all. A call is
        carried out wholly or refused; with ``expected_revision`` also if the attributes were changed since (code
        ``revision_conflict``; 0: if there ever were any). They end with the session, and a client that logs in anew
        by itself sets what the server had confirmed (S25).

        ``timeout`` is in seconds (default: ``request_timeout_seconds`` of the config). Raises InvalidArgument,
        NotConnected, RequestRefused, RequestTimeout and RequestAbandoned, whose ``outcome`` says whether it may have
        been carried out, ClientClosed.
        """
        command = partial(
            self._commands.change_attributes, put=kept(attributes), replace=True, expected_revision=expected_revision
        )
        receipt: AttributesReceipt = await self._ask(command, timeout)
        return receipt

    async def merge_attributes(
        self, attributes: Mapping[str, str], *, expected_revision: int | None = None, timeout: float | None = None
    ) -> AttributesReceipt:
        """Add these to one's own attributes, or replace those of the same keys; else as ``set_attributes``."""
        command = partial(self._commands.change_attributes, put=kept(attributes), expected_revision=expected_revision)
        receipt: AttributesReceipt = await self._ask(command, timeout)
        return receipt

    async def delete_attributes(
        self, keys: Iterable[str], *, expected_revision: int | None = None, timeout: float | None = None
    ) -> AttributesReceipt:
        """Delete those of one's own attributes that have these keys, if there are any; else as ``set_attributes``."""
        command = partial(self._commands.change_attributes, drop=kept(keys), expected_revision=expected_revision)
        receipt: AttributesReceipt = await self._ask(command, timeout)
        return receipt

    async def clear_attributes(
        self, *, expected_revision: int | None = None, timeout: float | None = None
    ) -> AttributesReceipt:
        """Delete all of one's own attributes; else as ``set_attributes``."""
        command = partial(self._commands.change_attributes, replace=True, expected_revision=expected_revision)
        receipt: AttributesReceipt = await self._ask(command, timeout)
        return receipt

    async def get_attributes(
        self, uid: str | None = None, keys: Iterable[str] = (), *, timeout: float | None = None
    ) -> AttributeSnapshot:
        """The attributes of a user, or one's own (None): those of ``keys``, or all (S39).

        One who is not logged in has none. Raises InvalidArgument, NotConnected, RequestRefused, RequestTimeout,
        RequestAbandoned, ClientClosed.
        """
        command = partial(self._commands.read_attributes, uid=uid, keys=kept(keys))
        snapshot: AttributeSnapshot = await self._ask(command, timeout)
        return snapshot

    # --- of channels

    async def set_channel_attributes(
        self,
        channel: str,
        attributes: Mapping[str, str],
        *,
        notify: bool = False,
        expected_revision: int | None = None,
        timeout: float | None = None,
    ) -> AttributesReceipt:
        """Replace the attributes of a channel, joined or not, by these; with ``notify`` its members get a
        ChannelAttributesChanged (S39).

        They have up to 32 KiB in all, and end 300 s after the last member left. Else as ``set_attributes``.
        """
        command = partial(
            self._commands.change_attributes,
            channel,
            put=kept(attributes),
            replace=True,
            notify=notify,
            expected_revision=expected_revision,
        )
        receipt: AttributesReceipt = await self._ask(command, timeout)
        return receipt

    async def merge_channel_attributes(
        self,
        channel: str,
        attributes: Mapping[str, str],
        *,
        notify: bool = False,
        expected_revision: int | None = None,
        timeout: float | None = None,
    ) -> AttributesReceipt:
        """Add these to the attributes of a channel, or replace those of the same keys; else as
        ``set_channel_attributes``."""
        command = partial(
            self._commands.change_attributes,
            channel,
            put=kept(attributes),
            notify=notify,
            expected_revision=expected_revision,
        )
        receipt: AttributesReceipt = await self._ask(command, timeout)
        return receipt

    async def delete_channel_attributes(
        self,
        channel: str,
        keys: Iterable[str],
        *,
        notify: bool = False,
        expected_revision: int | None = None,
        timeout: float | None = None,
    ) -> AttributesReceipt:
        """Delete the attributes of a channel that have these keys, if there are any; else as
        ``set_channel_attributes``."""
        command = partial(
            self._commands.change_attributes,
            channel,
            drop=kept(keys),
            notify=notify,
            expected_revision=expected_revision,
        )
        receipt: AttributesReceipt = await self._ask(command, timeout)
        return receipt

    async def clear_channel_attributes(
        self, channel: str, *, notify: bool = False, expected_revision: int | None = None, timeout: float | None = None
    ) -> AttributesReceipt:
        """Delete all attributes of a channel; else as ``set_channel_attributes``."""
        command = partial(
            self._commands.change_attributes, channel, replace=True, notify=notify, expected_revision=expected_revision
        )
        receipt: AttributesReceipt = await self._ask(command, timeout)
        return receipt

    async def get_channel_attributes(
        self, channel: str, keys: Iterable[str] = (), *, timeout: float | None = None
    ) -> AttributeSnapshot:
        """The attributes of a channel, joined or not: those of ``keys``, or all, each with who set it and when (S39).

        Raises as ``get_attributes`` does.
        """
        command = partial(self._commands.read_attributes, channel=channel, keys=kept(keys))
        snapshot: AttributeSnapshot = await self._ask(command, timeout)
        return snapshot
