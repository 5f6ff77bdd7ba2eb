"""Wires everything together: the one place that sees all layers."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memsidecar import __version__
from memsidecar.config import DEFAULT_TENANT
from memsidecar.document_reader_process import reader_command
from memsidecar.domain.audit import AuditTrail
from memsidecar.domain.caller import Caller, Right
from memsidecar.domain.conversation_memory import ConversationMemory
from memsidecar.domain.documents import Documents
from memsidecar.domain.erasure import Erasures
from memsidecar.domain.erasure_worker import ErasureWorker
from memsidecar.domain.errors import DomainError, Problem, SetupError
from memsidecar.domain.hybrid_search import HybridSearch
from memsidecar.domain.ingestion import Ingestion
from memsidecar.domain.ingestion_worker import IngestionWorker
from memsidecar.domain.observation import UNOBSERVED
from memsidecar.domain.quotas import Quota
from memsidecar.domain.recall_engine import RecallEngine
from memsidecar.domain.storage_quota import StorageQuota
from memsidecar.domain.tenants import TenantDirectory, TenantSettings
from memsidecar.domain.tokens import TokenRegistry
from memsidecar.domain.user_export import UserExports
from memsidecar.domain.user_memory import UserMemories
from memsidecar.embedding.engine import OnnxEmbedder
from memsidecar.embedding.model_files import Precision, open_installed, tokenizer_file
from memsidecar.parsing.limits import ReadingLimits
from memsidecar.parsing.process_pool import ReaderProcesses
from memsidecar.postgres.audit_store import PostgresAuditStore
from memsidecar.postgres.conversation_store import PostgresConversationStore
from memsidecar.postgres.database import ERASER_ROLE, Database
from memsidecar.postgres.deployment import DatabaseFacts, check_serving, read_facts
from memsidecar.postgres.document_store import PostgresDocumentStore
from memsidecar.postgres.embedded import EmbeddedPostgres, running_urls
from memsidecar.postgres.embedded.urls import APP, ERASER
from memsidecar.postgres.erasure_store import PostgresErasureStore
from memsidecar.postgres.erasure_work_store import PostgresErasureWorkStore
from memsidecar.postgres.export_store import PostgresExportStore
from memsidecar.postgres.hybrid_search_store import PostgresHybridSearchStore
from memsidecar.postgres.ingestion_job_store import PostgresIngestionJobStore
from memsidecar.postgres.ingestion_work_store import PostgresIngestionWorkStore
from memsidecar.postgres.models import register_model
from memsidecar.postgres.recall_store import PostgresRecallStore
from memsidecar.postgres.reclaimer import PostgresReclaimer
from memsidecar.postgres.tenant_store import PostgresTenantStore
from memsidecar.postgres.token_store import PostgresTokenStore
from memsidecar.postgres.usage_store import PostgresUsageStore
from memsidecar.postgres.user_memory_store import PostgresUserMemoryStore
from memsidecar.rpc.administration_service import AdministrationService, ServerInfo
from memsidecar.rpc.admission import Admission
from memsidecar.rpc.authentication import CredentialAuthentication, OpenAuthentication, TokenAuthentication
from memsidecar.rpc.certificate_authentication import CertificateAuthentication
from memsidecar.rpc.conversation_memory_service import ConversationMemoryService
from memsidecar.rpc.document_service import DocumentService
from memsidecar.rpc.json_web_keys import JsonWebKeys, key_set_source
from memsidecar.rpc.jwt_authentication import JwtAuthentication, JwtRules
from memsidecar.rpc.known_tenants import KnownTenants
from memsidecar.rpc.server import GrpcServer
from memsidecar.rpc.tls import TlsFiles
from memsidecar.rpc.user_memory_service import UserMemoryService
from memsidecar.telemetry.admin_server import AdminServer
from memsidecar.telemetry.ingestion_backlog import BacklogMonitor
from memsidecar.telemetry.metrics import Metrics
from memsidecar.telemetry.observer import TelemetryObserver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from memsidecar.config import Config
    from memsidecar.domain.embedding import Embedder
    from memsidecar.domain.observation import Observer
    from memsidecar.domain.tenants import Tenant, TenantStore
    from memsidecar.rpc.authentication import Authentication
    from memsidecar.telemetry.tracing import Tracing

_LOGGER = logging.getLogger(__name__)

ERASER_POOL_SIZE = 3
"""Connections of the eraser's pool: one works, the others take requests. None is kept while there is nothing to do."""

OPERATOR = Caller(name="command line", rights=frozenset({Right.OPERATOR}), tenant_id=None)
"""Whoever holds the database credentials is the operator: the command line acts as one."""


@dataclass(frozen=True, slots=True)
class Databases:
    """Connection URLs by role, after an embedded Postgres was started where none was configured."""

    app_url: str
    owner_url: str | None
    eraser_url: str | None


@dataclass(frozen=True, slots=True)
class RunningSidecar:
    """A server that takes calls."""

    address: str
    """Where it can be reached: ``host:port`` with the real port, or ``unix:/path``."""
    facts: DatabaseFacts
    server: GrpcServer
    admin_address: str | None = None
    """``host:port`` of the admin HTTP port, with the real port; None when there is none."""


def embedded_directory(config: Config) -> Path:
    """Give the directory of the embedded Postgres."""
    return config.data_directory / "postgres"


@asynccontextmanager
async def open_databases(config: Config, *, join: bool = False) -> AsyncIterator[Databases]:
    """Give the database URLs; starts and migrates the embedded Postgres where no database is configured.

    Args:
        config: The configuration.
        join: Use the embedded Postgres that a running sidecar has, if there is one. A process that serves
            must not: that Postgres ends with the other one.

    Raises:
        SetupError: The embedded Postgres cannot run.
    """
    if config.database_url is not None:
        yield Databases(config.database_url, config.owner_database_url, config.eraser_database_url)
        return
    if join and (running := running_urls(embedded_directory(config))) is not None:
        yield Databases(running.app_url, running.owner_url, running.eraser_url)
        return
    async with EmbeddedPostgres(embedded_directory(config)) as postgres:
        # Loaded by those who migrate alone: it costs a server 47 MB of memory.
        from memsidecar.postgres.migrations import migrate  # noqa: PLC0415

        urls = postgres.urls
        await migrate(urls.owner_url, app_login=APP, eraser_login=ERASER)
        yield Databases(urls.app_url, urls.owner_url, urls.eraser_url)


def open_embedder(config: Config, observer: Observer = UNOBSERVED) -> OnnxEmbedder:
    """Load the installed model.

    Raises:
        ModelMissing: It is not installed.
        ModelCorrupt: A file of it is not the one that was installed.
    """
    model = open_installed(config.model_directory, Precision(config.model_precision))
    return OnnxEmbedder(model, threads=config.embedding_threads or None, observer=observer)


@asynccontextmanager
async def open_control_plane(config: Config) -> AsyncIterator[tuple[TenantDirectory, TokenRegistry]]:
    """Open tenants and tokens for the command line."""
    async with open_databases(config, join=True) as databases:
        database = await Database.connect(databases.app_url, max_connections=2)
        try:
            yield TenantDirectory(PostgresTenantStore(database)), TokenRegistry(PostgresTokenStore(database))
        finally:
            await database.close()


@asynccontextmanager
async def run_sidecar(config: Config, embedder: Embedder | None = None) -> AsyncIterator[RunningSidecar]:
    """Start everything, serve, and stop everything on leaving, gracefully.

    Args:
        config: Settings.
        embedder: One that is loaded already and stays loaded; by default the installed model is loaded.

    Raises:
        SetupError: Something is not as it must be; the error says what and what to do.
        ModelMissing: The model is not installed.
        DatabaseUnavailable: The database does not answer.
    """
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        tracing = _open_tracing(config)
        if tracing is not None:
            stack.push_async_callback(tracing.close)
        observer = TelemetryObserver(metrics, tracing)
        if embedder is None:
            own_embedder = await asyncio.to_thread(open_embedder, config, observer)
            stack.push_async_callback(own_embedder.close)
            embedder = own_embedder
        counters = embedder.counters if isinstance(embedder, OnnxEmbedder) else None
        if tracing is not None:
            embedder = tracing.traced(embedder)
        databases = await stack.enter_async_context(open_databases(config))
        database = await Database.connect(
            databases.app_url,
            max_connections=config.pool_size,
            acquire_timeout=config.pool_wait_seconds,
            statement_cache_size=config.statement_cache_size,
            longest_statement=config.longest_statement_seconds,
            observer=observer,
        )
        stack.push_async_callback(database.close)
        facts = await read_facts(database)
        check_serving(facts)
        model_id = await register_model(database, embedder.model)
        worker = _build_ingestion_worker(
            config, stack, database, embedder, model_id=model_id, observer=observer
        )
        authentication = await _open_admission(config, stack, database)
        server = _build_server(
            authentication,
            database,
            embedder,
            model_id=model_id,
            facts=facts,
            worker=worker,
            erasures=await _open_erasures(stack, database, databases),
            observer=observer,
        )
        metrics.describe(
            version=__version__,
            postgres=facts.postgres_version,
            pgvector=facts.pgvector_version or "",
            schema=facts.schema.current or "",
            model=embedder.model,
        )
        metrics.watch(pool=database.use, embedding=counters, serving=lambda: server.serving)
        admin_address = await _open_admin_port(config, stack, metrics, server, worker)
        worker.start()
        stack.push_async_callback(worker.stop)
        port = await server.start(config.listen, _tls_files(config))
        stack.push_async_callback(server.stop, config.grace_seconds)
        yield RunningSidecar(_address(config.listen, port), facts, server, admin_address)


def _open_tracing(config: Config) -> Tracing | None:
    if config.traces is None:
        return None
    try:
        # Costs 20 MB of memory, which only those pay who want traces.
        from memsidecar.telemetry.tracing import Tracing, open_exporter  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SetupError(
            Problem(
                "the environment asks for traces, but OpenTelemetry is not installed.",
                "Install memsidecar[tracing], or set OTEL_SDK_DISABLED=true.",
            )
        ) from error
    return Tracing(open_exporter(config.traces, config.otlp_protocol), version=__version__)


async def _open_admin_port(
    config: Config,
    stack: AsyncExitStack,
    metrics: Metrics,
    server: GrpcServer,
    worker: IngestionWorker,
) -> str | None:
    """Open the admin port before calls are taken; it stays until all of them are answered."""
    if config.admin_listen is None:
        return None
    admin_server = AdminServer(metrics.render, lambda: server.serving)
    port = await admin_server.start(config.admin_listen)
    stack.push_async_callback(admin_server.stop)
    monitor = BacklogMonitor(worker.backlog, metrics)
    monitor.start()
    stack.push_async_callback(monitor.stop)
    return _address(config.admin_listen, port)


def _build_ingestion_worker(
    config: Config,
    stack: AsyncExitStack,
    database: Database,
    embedder: Embedder,
    *,
    model_id: int,
    observer: Observer,
) -> IngestionWorker:
    limits = ReadingLimits()
    readers = ReaderProcesses(reader_command(tokenizer_file(config.model_directory), limits), limits)
    stack.push_async_callback(readers.close)
    store = PostgresIngestionWorkStore(database, model_id=model_id)
    return IngestionWorker(store, readers, embedder, observer=observer)


async def _open_erasures(stack: AsyncExitStack, database: Database, databases: Databases) -> Erasures:
    """Give the way to ask for erasures, and start to work on them where there is a role for it."""
    reader = PostgresErasureStore(database)
    if databases.eraser_url is None:
        return Erasures(reader, None, requested=lambda: None)
    eraser = await Database.connect(
        databases.eraser_url, min_connections=0, max_connections=ERASER_POOL_SIZE, role=ERASER_ROLE
    )
    stack.push_async_callback(eraser.close)
    vacuum_urls = [url for url in (databases.owner_url, databases.eraser_url) if url is not None]
    worker = ErasureWorker(PostgresErasureWorkStore(eraser), PostgresReclaimer(eraser, vacuum_urls))
    worker.start()
    stack.push_async_callback(worker.stop)
    return Erasures(reader, PostgresErasureStore(eraser), requested=worker.notice)


async def _open_admission(config: Config, stack: AsyncExitStack, database: Database) -> Admission:
    defaults = Quota(config.max_turns, config.max_document_bytes, config.calls_per_second)
    return Admission(await _open_authentication(config, stack, database), defaults)


async def _open_authentication(config: Config, stack: AsyncExitStack, database: Database) -> Authentication:
    tenant_store = PostgresTenantStore(database)
    known_tenants = KnownTenants(tenant_store)
    if not config.requires_credential:
        await default_tenant(tenant_store, DEFAULT_TENANT)
        return OpenAuthentication(DEFAULT_TENANT, known_tenants)
    return CredentialAuthentication(
        TokenAuthentication(PostgresTokenStore(database)),
        await _open_jwt_authentication(config, stack, known_tenants),
        None if config.tls_clients is None else CertificateAuthentication(config.tls_clients, known_tenants),
    )


async def _open_jwt_authentication(
    config: Config, stack: AsyncExitStack, known_tenants: KnownTenants
) -> JwtAuthentication | None:
    if config.jwt_issuer is None or config.jwt_audience is None:
        return None
    rules = JwtRules(
        config.jwt_issuer,
        config.jwt_audience,
        config.jwt_tenant_claim,
        config.jwt_scope_claim,
        config.jwt_agents_claim,
    )
    keys = None
    if config.jwt_keys is not None:
        keys = JsonWebKeys(key_set_source(config.jwt_keys))
        await keys.start()
        stack.push_async_callback(keys.stop)
    return JwtAuthentication(rules, keys=keys, secret=config.jwt_secret, tenants=known_tenants)


def _tls_files(config: Config) -> TlsFiles | None:
    if config.tls_certificate is None or config.tls_key is None:
        return None
    return TlsFiles(config.tls_certificate, config.tls_key, config.tls_client_authority)


def _build_server(
    authentication: Authentication,
    database: Database,
    embedder: Embedder,
    *,
    model_id: int,
    facts: DatabaseFacts,
    worker: IngestionWorker,
    erasures: Erasures,
    observer: Observer,
) -> GrpcServer:
    storage_quota = StorageQuota(PostgresUsageStore(database))
    return GrpcServer(
        conversation_memory=ConversationMemoryService(
            authentication,
            ConversationMemory(
                PostgresConversationStore(database, model_id=model_id), embedder, storage_quota
            ),
            RecallEngine(PostgresRecallStore(database, model_id=model_id), embedder, observer),
            embedder.model,
        ),
        user_memory=UserMemoryService(
            authentication,
            UserMemories(PostgresUserMemoryStore(database, model_id=model_id), embedder),
        ),
        documents=DocumentService(
            authentication,
            Documents(PostgresDocumentStore(database)),
            Ingestion(
                PostgresIngestionJobStore(database),
                embedder.model,
                submitted=worker.notice,
                storage_quota=storage_quota,
            ),
            HybridSearch(PostgresHybridSearchStore(database, model_id=model_id), embedder, observer),
        ),
        administration=AdministrationService(
            authentication,
            tenants=TenantDirectory(PostgresTenantStore(database)),
            tokens=TokenRegistry(PostgresTokenStore(database)),
            erasures=erasures,
            exports=UserExports(PostgresExportStore(database, model_id=model_id), embedder, storage_quota),
            audit=AuditTrail(PostgresAuditStore(database)),
            info=ServerInfo(
                version=__version__,
                model=embedder.model,
                postgres_version=facts.postgres_version,
                pgvector_version=facts.pgvector_version or "",
                schema_revision=facts.schema.current or "",
            ),
        ),
        database_answers=database.answers,
        observer=observer,
    )


async def default_tenant(store: TenantStore, name: str) -> Tenant:
    """Find a tenant by name, or make it."""
    for _attempt in range(2):
        tenant = await store.find(name=name)
        if tenant is not None:
            return tenant
        try:
            return await TenantDirectory(store).create(OPERATOR, name, TenantSettings(), None)
        except DomainError:
            _LOGGER.debug("another process made the tenant %s at the same moment", name)
    raise LookupError(name)


def _address(listen: str, port: int) -> str:
    if listen.startswith("unix:"):
        return listen
    return f"{listen.rpartition(':')[0]}:{port}"
