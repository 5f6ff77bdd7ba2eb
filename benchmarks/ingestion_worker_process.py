"""An ingestion worker to be killed: ``python -m benchmarks.ingestion_worker_process URL MODEL_DIRECTORY``."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from memsidecar.document_reader_process import reader_command
from memsidecar.domain.ingestion_worker import IngestionWorker
from memsidecar.embedding.engine import OnnxEmbedder
from memsidecar.embedding.model_files import Precision, open_installed, tokenizer_file
from memsidecar.parsing.limits import ReadingLimits
from memsidecar.parsing.process_pool import ReaderProcesses
from memsidecar.postgres.database import Database
from memsidecar.postgres.ingestion_work_store import PostgresIngestionWorkStore
from memsidecar.postgres.models import register_model

LEASE = timedelta(seconds=1)


async def work(url: str, model_directory: Path) -> None:
    """Work until killed."""
    database = await Database.connect(url, max_connections=8)
    embedder = OnnxEmbedder(open_installed(model_directory, Precision.INT8), threads=1)
    limits = ReadingLimits()
    readers = ReaderProcesses(reader_command(tokenizer_file(model_directory), limits), limits)
    store = PostgresIngestionWorkStore(database, model_id=await register_model(database, embedder.model))
    IngestionWorker(store, readers, embedder, lease=LEASE).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], Path(sys.argv[2])))
