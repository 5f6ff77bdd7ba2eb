"""Documents: how well hybrid search finds what answers a question, and what row-level security costs it.

``--data DIR`` holds labelled sets (``corpus.jsonl``, ``queries.jsonl`` and ``qrels.tsv`` in a folder each). Every text
goes in as a document through IngestDocuments, every question is asked through HybridSearch with default settings, hits
grouped by document; then once more with one leg alone. The figure is nDCG@10.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks.document_sets import CUTOFF, LabelledSet, labelled_sets, ndcg
from benchmarks.sidecar import benchmark_sidecar
from memsidecar.v1 import documents_pb2 as pb
from memsidecar.v1.documents_pb2_grpc import DocumentServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.options import Options

LEGS = {
    "fused": pb.HybridOptions(),
    "vector": pb.HybridOptions(lexical_weight=0),
    "lexical": pb.HybridOptions(vector_weight=0),
}
QUICK_QUESTIONS = 25


async def _parts(collection: LabelledSet) -> AsyncIterator[pb.IngestDocumentsRequest]:
    for key, text in collection.texts.items():
        document = pb.NewDocument(
            document_key=key,
            user_id=collection.name,
            content=text.encode(),
            document_type=pb.DOCUMENT_TYPE_TEXT,
        )
        yield pb.IngestDocumentsRequest(document=document)


async def take_in(stub: Any, collection: LabelledSet) -> float:
    """Ingest a whole set and give the seconds it took."""
    started = time.perf_counter()
    job = (await stub.IngestDocuments(_parts(collection))).job
    async for message in stub.WatchIngestionJob(pb.WatchIngestionJobRequest(job_id=job.job_id)):
        job = message.job
    if job.status != pb.INGESTION_STATUS_COMPLETED:
        raise RuntimeError(f"{collection.name}: {job.failed_documents} documents failed: {job.errors[:3]}")
    return time.perf_counter() - started


async def score(stub: Any, collection: LabelledSet, options: pb.HybridOptions) -> dict[str, float]:
    """Ask every question and give nDCG@10 and the median milliseconds of a search."""
    gains, seconds = [], []
    for key, question in collection.questions.items():
        request = pb.HybridSearchRequest(
            query=question,
            scope=pb.DocumentScope(user_id=collection.name),
            top_k=CUTOFF,
            group_by_document=True,
            options=options,
        )
        started = time.perf_counter()
        response = await stub.HybridSearch(request)
        seconds.append(time.perf_counter() - started)
        found = [hit.document.document_key for hit in response.hits]
        gains.append(ndcg(found, collection.grades[key]))
    return {"ndcg": round(statistics.mean(gains), 4), "p50_ms": round(statistics.median(seconds) * 1000, 1)}


async def _measure(collections: list[LabelledSet]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    async with benchmark_sidecar() as channel:
        stub = DocumentServiceStub(channel)
        for collection in collections:
            seconds = await take_in(stub, collection)
            figures[collection.name] = {
                "documents": len(collection.texts),
                "questions": len(collection.questions),
                "ingest_seconds": round(seconds, 1),
                **{leg: await score(stub, collection, options) for leg, options in LEGS.items()},
            }
    return figures


def run(options: Options) -> dict[str, Any]:
    """Measure and print the table."""
    if options.data is None:
        raise SystemExit("this benchmark needs --data DIR with labelled sets (corpus, queries, qrels)")
    collections = list(labelled_sets(options.data))
    if options.quick:
        collections = [_shortened(collection) for collection in collections]
    figures = asyncio.run(_measure(collections))
    print(f"{'nDCG@10':<20}" + "".join(f"{leg:>10}" for leg in LEGS) + f"{'p50 ms':>10}")
    for name, row in figures.items():
        cells = "".join(f"{row[leg]['ndcg']:>10.3f}" for leg in LEGS)
        print(f"{name:<20}{cells}{row['fused']['p50_ms']:>10.1f}")
    return figures


def _shortened(collection: LabelledSet) -> LabelledSet:
    """Take a few questions, the texts that answer them, and as many that do not."""
    questions = dict(list(collection.questions.items())[:QUICK_QUESTIONS])
    grades = {key: collection.grades[key] for key in questions}
    wanted = {text for graded in grades.values() for text in graded}
    others = [key for key in collection.texts if key not in wanted][: 8 * QUICK_QUESTIONS]
    texts = {key: collection.texts[key] for key in [*sorted(wanted & set(collection.texts)), *others]}
    return LabelledSet(collection.name, texts, questions, grades)
