"""Narrows what a caller asked for to what its credential covers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memsidecar.domain.caller import Caller
    from memsidecar.domain.turns import TurnScope


def allowed_scope(caller: Caller, scope: TurnScope) -> TurnScope:
    """Give the part of ``scope`` the caller may see.

    Raises:
        PermissionDenied: The scope names an agent the credential does not cover.
    """
    if not scope.agent_ids:
        return replace(scope, agent_ids=tuple(sorted(caller.agent_ids)))
    for agent_id in scope.agent_ids:
        caller.require_agent(agent_id)
    return scope
