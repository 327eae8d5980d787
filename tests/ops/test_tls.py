"""TLS of what a node listens on: suites, certificates of callers, reloading, and nginx in front."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509

from obieg.edges.asgi import CERTIFICATE
from obieg.ops import settings as node_settings
from obieg.ops.commands_certs import make as make_certificate
from obieg.ops.failure import Failure
from obieg.ops.http_server import HttpServer
from obieg.ops.settings import Settings
from obieg.ops.tls import SUITES_OF_TLS_1_2, Listening, calling, ends, files_of, watch

LOCAL = ["localhost", "127.0.0.1"]


async def who(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what the node knows of the caller."""
    del receive
    der = scope["extensions"][CERTIFICATE]["der"]
    subject = x509.load_der_x509_certificate(der).subject.rfc4514_string() if der else None
    headers = [name.decode() for name, _ in scope["headers"]]
    body = json.dumps({"client": scope["client"][0], "subject": subject, "scheme": scope["scheme"], "headers": headers})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body.encode()})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_certificate(tmp_path, "node", LOCAL)
    make_certificate(tmp_path, "hospital", LOCAL)
    make_certificate(tmp_path / "others", "stranger", LOCAL)
    (tmp_path / "trust.json").write_text(json.dumps({"client_cas": "ca.pem"}))
    return tmp_path


def settings_of(folder: Path, **tables: Any) -> Settings:
    files = {"certificate_file": "node.pem", "key_file": "node.key"}
    identity = {"home_community_id": "1.2", "repository_unique_id": "1.3", "assigning_authority": "1.4"}
    given = {"role": "region", "data_dir": ".", "identity": identity, "tls": files, "trust": {"file": "trust.json"}}
    return node_settings.make({**given, **tables}, "test", folder)


@asynccontextmanager
async def serving(settings: Settings, context: ssl.SSLContext | None) -> Any:
    listener = socket.create_server(("127.0.0.1", 0))
    server = HttpServer(who, settings.limits, tls=context, proxies=settings.http.proxies)
    task = asyncio.create_task(server.serve([listener]))
    await server.ready.wait()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


def client(folder: Path, name: str | None = None, of: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if name is not None:
        context.load_cert_chain(folder / of / f"{name}.pem", folder / of / f"{name}.key")
    return context


async def ask(port: int, context: ssl.SSLContext, **more: Any) -> dict[str, Any]:
    async with httpx.AsyncClient(verify=context) as http:
        answer = await http.get(f"https://localhost:{port}/", **more)
        return answer.json()


async def test_the_certificate_of_a_caller_is_known(folder):
    settings = settings_of(folder)
    async with serving(settings, Listening(settings).people_and_systems) as port:
        assert (await ask(port, client(folder, "hospital")))["subject"] == "CN=hospital"
        assert (await ask(port, client(folder)))["subject"] is None
        with pytest.raises(httpx.TransportError):
            await ask(port, client(folder, "stranger", "others"))
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            await ask(port, ssl.create_default_context())
        said = {"x-client-certificate": "forged", "x-client-verify": "SUCCESS", "x-real-ip": "192.0.2.1"}
        found = await ask(port, client(folder), headers=said)
        assert (found["client"], found["subject"], found["scheme"]) == ("127.0.0.1", None, "https")


async def test_own_calls_believe_the_named_authority_and_nobody_else(folder):
    settings = settings_of(folder)
    async with serving(settings, Listening(settings).people_and_systems) as port:
        assert (await ask(port, calling(settings, folder / "ca.pem")))["subject"] == "CN=node"
        for authorities in (folder / "others" / "ca.pem", None):
            with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                await ask(port, calling(settings, authorities))
        context = calling(settings, folder / "ca.pem")
        assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)


@pytest.mark.parametrize("suite", ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"])
async def test_suites_that_are_not_listed_are_refused(folder, suite):
    settings = settings_of(folder)
    context = client(folder)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{suite}:@SECLEVEL=0")
    async with serving(settings, Listening(settings).people_and_systems) as port:
        with pytest.raises(httpx.ConnectError):
            await ask(port, context)


async def test_openssl_agrees_on_what_is_spoken(folder):
    """OpenSSL's own client, version by version and suite by suite."""
    settings = settings_of(folder)
    async with serving(settings, Listening(settings).people_and_systems) as port:

        async def spoken(*options: str) -> str:
            command = ["openssl", "s_client", "-connect", f"localhost:{port}", "-CAfile", folder / "ca.pem", "-brief"]
            done = await asyncio.to_thread(
                subprocess.run, [*command, *options], input=b"", capture_output=True, timeout=20, check=False
            )
            return done.stderr.decode()

        assert "Protocol version: TLSv1.3" in await spoken()
        for suite in SUITES_OF_TLS_1_2:
            said = await spoken("-tls1_2", "-cipher", suite)
            assert (f"Ciphersuite: {suite}" in said) == ("ECDSA" in suite), said  # the key is one of ECDSA
        for version in ("-tls1", "-tls1_1"):
            assert "Ciphersuite" not in await spoken(version, "-cipher", "ALL:@SECLEVEL=0")


async def test_certificates_and_authorities_are_read_again_under_open_listeners(folder):
    settings = settings_of(folder)
    listening = Listening(settings)
    async with serving(settings, listening.people_and_systems) as port:
        old, stranger = client(folder, "hospital"), client(folder, "stranger", "others")
        await ask(port, old)
        stranger.load_verify_locations(folder / "others" / "ca.pem")
        make_certificate(folder / "others", "node", LOCAL)
        for suffix in ("pem", "key"):
            shutil.copy(folder / "others" / f"node.{suffix}", folder / f"node.{suffix}")
        (folder / "trust.json").write_text(json.dumps({"client_cas": "others/ca.pem"}))
        await ask(port, old)  # nothing has been said yet
        listening.reload()
        assert (await ask(port, stranger))["subject"] == "CN=stranger"
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            await ask(port, old)
        old.load_verify_locations(folder / "others" / "ca.pem")
        with pytest.raises(httpx.TransportError):  # its authority is trusted no more
            await ask(port, old)
        (folder / "node.key").write_text("no key")
        with pytest.raises(Failure, match="certificate cannot be used"):
            listening.reload()
        assert (await ask(port, stranger))["subject"] == "CN=stranger"


async def test_changed_files_are_noticed_and_ends_are_told(folder, monkeypatch, capsys):
    monkeypatch.setattr("obieg.ops.tls._LOOK_S", 0.01)
    make_certificate(folder, "brief", LOCAL, days=59)
    for suffix in ("pem", "key"):
        shutil.copy(folder / f"brief.{suffix}", folder / f"node.{suffix}")
    settings = settings_of(folder)
    listening = Listening(settings)
    [(name, end), *_] = ends(settings)
    assert name == "own (CN=brief)"
    assert 58 <= (end - datetime.now(UTC)).days <= 59
    watching = asyncio.create_task(watch(settings, files_of(settings), listening.reload))
    async with serving(settings, listening.people_and_systems) as port:
        await ask(port, client(folder))
        make_certificate(folder, "new", LOCAL)
        for suffix in ("key", "pem"):
            shutil.copy(folder / f"new.{suffix}", folder / f"node.{suffix}")
        async with asyncio.timeout(10):
            while True:
                _, writer = await asyncio.open_connection("localhost", port, ssl=client(folder))
                shown = writer.get_extra_info("peercert")
                writer.close()
                if dict(pair for [pair] in shown["subject"])["commonName"] == "new":
                    break
                await asyncio.sleep(0.02)
    watching.cancel()
    assert "a certificate ends soon" in capsys.readouterr().out


# behind a proxy -------------------------------------------------------------------------------------------------------

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1;
events {{ }}
http {{
  access_log off; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/node.pem; ssl_certificate_key {folder}/node.key;
    ssl_client_certificate {folder}/ca.pem; ssl_verify_client optional;
    location / {{
      proxy_pass http://127.0.0.1:{node};
      proxy_set_header Host $http_host;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Client-Certificate $ssl_client_escaped_cert;
      proxy_set_header X-Client-Verify $ssl_client_verify;
    }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path, node: int) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    folder.chmod(0o755)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, node=node))
    process = subprocess.Popen(["nginx", "-c", folder / "nginx.conf", "-p", folder], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
async def test_nginx_tells_who_calls(folder):
    settings = settings_of(folder, http={"proxies": ["127.0.0.1"]})
    async with serving(settings, None) as node:
        with nginx(folder, node) as port:
            found = await ask(port, client(folder, "hospital"))
            assert (found["subject"], found["client"], found["scheme"]) == ("CN=hospital", "127.0.0.1", "https")
            assert not {"x-real-ip", "x-client-certificate", "x-client-verify"} & set(found["headers"])
            assert (await ask(port, client(folder)))["subject"] is None
            # What a caller says of a certificate does not get past nginx.
            forged = {
                "X-Client-Certificate": quote((folder / "hospital.pem").read_text()),
                "X-Client-Verify": "SUCCESS",
            }
            assert (await ask(port, client(folder), headers=forged))["subject"] is None


async def test_only_the_named_proxies_are_heard(folder):
    pem = quote((folder / "hospital.pem").read_text())
    told = {"X-Real-IP": "192.0.2.7", "X-Client-Certificate": pem, "X-Client-Verify": "SUCCESS"}
    async with httpx.AsyncClient() as http:
        async with serving(settings_of(folder, http={"proxies": ["127.0.0.1"]}), None) as port:
            url = f"http://127.0.0.1:{port}/"
            found = (await http.get(url, headers=told)).json()
            assert (found["client"], found["subject"]) == ("192.0.2.7", "CN=hospital")
            for wrong in (
                {},
                told | {"X-Real-IP": "nobody"},
                told | {"X-Client-Verify": "FAILED:self signed certificate"},
                told | {"X-Client-Certificate": "no PEM"},
                {name: value for name, value in told.items() if name != "X-Client-Verify"},
            ):
                assert (await http.get(url, headers=wrong)).status_code == 400
            twice = [*told.items(), ("X-Client-Certificate", pem)]
            assert (await http.get(url, headers=twice)).status_code == 400
        async with serving(settings_of(folder, http={"proxies": ["192.0.2.1"]}), None) as port:
            assert (await http.get(f"http://127.0.0.1:{port}/", headers=told)).status_code == 403


async def test_a_broken_trust_file_ends_no_watch(folder, monkeypatch):
    monkeypatch.setattr("obieg.ops.tls._LOOK_S", 0.01)
    settings = settings_of(folder)
    reloaded = asyncio.Event()
    watching = asyncio.create_task(watch(settings, files_of(settings), reloaded.set))
    whole = (folder / "trust.json").read_text()
    for text in ("{", whole):
        (folder / "trust.json").write_text(text)
        async with asyncio.timeout(10):
            await reloaded.wait()
        reloaded.clear()
        await asyncio.sleep(0.05)
        assert not watching.done()
    watching.cancel()


async def test_a_trust_file_without_authorities_lets_no_system_in(folder):
    (folder / "trust.json").write_text("{}")
    settings = settings_of(folder)
    async with serving(settings, Listening(settings).systems) as port:
        for shown in (client(folder), client(folder, "hospital")):
            with pytest.raises(httpx.TransportError):
                await ask(port, shown)
