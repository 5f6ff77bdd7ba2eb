"""Which number a model has in this database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from memsidecar.domain.embedding import ModelIdentity
    from memsidecar.postgres.database import Database

_QUERIES = load_queries("conversation_memory")


async def register_model(database: Database, model: ModelIdentity) -> int:
    """Make sure the model is known and give its number, which is stored beside every vector it makes."""
    async with database.control() as connection:
        number = await connection.fetchval(_QUERIES["find_model"], model.name, model.precision, model.sha256)
        if number is None:
            number = await connection.fetchval(
                _QUERIES["register_model"], model.name, model.precision, model.sha256, model.dimensions
            )
        if number is None:  # another replica registered it between the two statements
            number = await connection.fetchval(
                _QUERIES["find_model"], model.name, model.precision, model.sha256
            )
        return int(number)
