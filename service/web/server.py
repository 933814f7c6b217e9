"""Start everything that a service is made of, serve until told to stop, and put it away."""

from __future__ import annotations

import logging
import socket
from contextlib import ExitStack

import uvicorn
from fastapi import FastAPI

from service.jobs.manager import JobManager
from service.jobs.ray_backend import RayBackend
from service.jobs.settings import ServiceSettings
from service.jobs.webhooks import Webhooks
from service.ledger import Ledger
from service.web.app import create_app
from service.web.fitting import FittingPool
from service.web.upkeep import Upkeep
from trainers.errors import ConfigError

log = logging.getLogger("isoflop.web")
PATIENCE_S = 5
"""Open streams end within so many seconds of Ctrl-C."""


def run(settings: ServiceSettings) -> None:
    """Serve until Ctrl-C or SIGTERM. Jobs go on: the next start finds them again.

    Raises:
        ConfigError: the address may not be served, or is taken; nothing was started.
        LedgerError: the ledger cannot be used, or another service serves it.

    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger.open(settings.ledger.resolved()))
        refuse_open_door(ledger, settings)
        stack.enter_context(ledger.serving())
        listener = stack.enter_context(_listen(settings))
        manager = JobManager(ledger, _backend(settings), settings)
        manager.start()
        stack.callback(manager.close)
        for helper in (Webhooks(ledger), Upkeep(ledger, settings.storage.keep)):
            helper.start()
            stack.callback(helper.close)
        fitter = FittingPool()
        stack.callback(fitter.close)
        app = create_app(manager, ledger, settings, fitter)
        log.info("dashboard: %s", _url(settings, listener))
        _serve(app, settings, listener)


def refuse_open_door(ledger: Ledger, settings: ServiceSettings) -> None:
    """Refuse to serve others before anybody was added.

    Raises:
        ConfigError: nobody could sign in, so everybody would be let in.

    """
    if settings.listen.is_loopback or ledger.users():
        return
    raise ConfigError(
        f"`listen.host` is {settings.listen.host}, which others can reach, but there are no "
        "users; add one with `isoflop users add NAME --role admin`, or listen on 127.0.0.1"
    )


def _backend(settings: ServiceSettings) -> RayBackend:
    """Return the cluster that the config names, or start a head on this machine."""
    if settings.cluster.address is not None:
        return RayBackend(settings.cluster.address, token=settings.cluster_token())
    from service.jobs.local_cluster import LocalBackend

    log.info("starting a Ray head on this machine, reachable from here only")
    return LocalBackend()


def _listen(settings: ServiceSettings) -> socket.socket:
    listen = settings.listen
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        return socket.create_server((listen.host, listen.port), family=family, backlog=512)
    except OSError as error:
        raise ConfigError(
            f"the service cannot listen on {listen.host}:{listen.port} "
            f"({error.strerror or error}); stop what uses it, or choose another --port"
        ) from None


def _url(settings: ServiceSettings, listener: socket.socket) -> str:
    scheme = "http" if settings.listen.tls_cert is None else "https"
    host = f"[{settings.listen.host}]" if ":" in settings.listen.host else settings.listen.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"


def _serve(app: FastAPI, settings: ServiceSettings, listener: socket.socket) -> None:
    listen = settings.listen
    config = uvicorn.Config(
        app,
        log_level="warning",
        proxy_headers=False,  # who asks is read from the connection, never from a header
        server_header=False,
        timeout_graceful_shutdown=PATIENCE_S,
        ssl_certfile=None if listen.tls_cert is None else str(listen.tls_cert),
        ssl_keyfile=None if listen.tls_key is None else str(listen.tls_key),
    )
    uvicorn.Server(config).run(sockets=[listener])
