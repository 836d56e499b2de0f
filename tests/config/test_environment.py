"""Variables that libraries read and trip over: each ends in a line that names it, or simply works."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess

import httpx
import pytest
import trustme
from support.documents import many_models
from support.syncing import base_environment, environment, mirror
from support.upstream import FaultyUpstream

from registry_mirror import Client, ConfigurationError
from registry_mirror import environment as surroundings
from registry_mirror.environment import bypassed
from registry_mirror.transfer.http import Connections, _tls_context

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def tls(tmp_path):
    """What a variable about TLS may name, by kind."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "named").mkdir()
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "named" / "corporate.pem")
    (tmp_path / "text").write_text("no certificate\n")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize(
    ("variable", "name", "said"),
    [
        ("SSL_CERT_FILE", "nothing", "cannot be read: No such file"),
        ("SSL_CERT_FILE", "empty", "is no file"),
        ("SSL_CERT_FILE", "pipe", "is no file"),
        ("SSL_CERT_FILE", "text", "holds no certificates"),
        ("SSL_CERT_DIR", "nothing", "cannot be read: No such file"),
        ("SSL_CERT_DIR", "ca.pem", "cannot be read: Not a directory"),
        ("SSL_CERT_DIR", "empty", "holds no certificates"),
        ("SSL_CERT_DIR", "named", "openssl rehash"),
        ("SSLKEYLOGFILE", "empty", "cannot be written: Is a directory"),
        ("SSLKEYLOGFILE", "nothing/log", "cannot be written: No such file"),
    ],
)
def test_a_variable_about_tls_that_cannot_be_used_is_named(tls, monkeypatch, variable, name, said):
    monkeypatch.setenv(variable, str(tls / name))
    with pytest.raises(ConfigurationError, match=f"environment {variable}: {tls / name} .*{said}"):
        Client("k", "https://registry.example")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_certificates_that_may_not_be_read_are_named(tls, monkeypatch):  # pragma: no cover - where root runs the suite
    (tls / "ca.pem").chmod(0)
    monkeypatch.setenv("SSL_CERT_FILE", str(tls / "ca.pem"))
    with pytest.raises(ConfigurationError, match=r"SSL_CERT_FILE: .*Permission denied"):
        Client("k", "https://registry.example")


def test_variables_about_tls_that_can_be_used_are(tls, monkeypatch):
    (tls / "named" / "0a1b2c3d.0").symlink_to(tls / "ca.pem")
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join((str(tls / "nothing"), str(tls / "named"))))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tls / "log"))
    Client("k", "https://registry.example").close()
    monkeypatch.setenv("SSL_CERT_FILE", str(tls / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tls / "nothing"))  # not looked at beside the other
    Client("k", "https://registry.example").close()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_beside_a_ca_file_a_variable_that_cannot_be_used_adds_no_trust_and_refuses_nothing(
    tls, monkeypatch, variable, name
):
    monkeypatch.setenv(variable, str(tls / name))
    surroundings.check_network(None, tls / "ca.pem")
    context = _tls_context(tls / "ca.pem")
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1
    with pytest.raises(ConfigurationError, match=rf"^upstream\.ca_file: .*{tls / 'text'}"):
        Connections(ca_file=tls / "text")


@pytest.mark.parametrize(
    "variable", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
)
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("socks4://hunter2:hunter2@proxy.example:1080", "is not an http or https URL"),
        ("socks5://hunter2:hunter2@proxy.example:1080", "needs the package socksio"),
        ("http://hunter2:hunter2@proxy.example:port", "has a bad host or port"),
        ("http://hunter2:hunter2@proxy.example:99999", "has a bad host or port"),
        ("http://[::1", "has a bad host or port"),
        ("http://", "names no host"),
        ("://", "is not an http or https URL"),
        ("not a proxy", "has white space"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(monkeypatch, variable, value, said):
    monkeypatch.setattr(surroundings, "_has_socks", lambda: False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=said) as caught:
        Client("k", "https://registry.example")
    assert str(caught.value).startswith(f"environment {variable}: the proxy ")
    assert "hunter2" not in str(caught.value)


def test_a_proxy_that_only_the_client_library_refuses_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://hunter2:hunter2@é_b.example")
    with pytest.raises(ConfigurationError, match="environment HTTPS_PROXY: the proxy's address") as caught:
        Client("k", "https://registry.example")
    assert "hunter2" not in str(caught.value)


def test_a_configured_proxy_takes_the_place_of_those_of_the_environment(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "socks4://nonsense")
    monkeypatch.setenv("NO_PROXY", "*")
    reach = Connections(proxy="http://configured.example:1")
    assert reach.proxy_of(httpx.URL("https://registry.example")).url == "http://configured.example:1"
    assert reach.proxy_of(httpx.URL("https://localhost")) is None
    with pytest.raises(ConfigurationError, match=r"upstream\.proxy: the proxy"):
        Connections(proxy="socks4://nonsense")


@pytest.mark.parametrize("lower", [False, True])
def test_each_scheme_has_its_proxy(monkeypatch, lower):
    for name, value in {"HTTP_PROXY": "one.example:1", "HTTPS_PROXY": "http://two.example:2"}.items():
        monkeypatch.setenv(name.lower() if lower else name, value)
    reach = Connections()
    assert reach.proxy_of(httpx.URL("http://registry.example")).url == "http://one.example:1"
    assert reach.proxy_of(httpx.URL("https://registry.example")).url == "http://two.example:2"
    assert reach.proxy_of(httpx.URL("https://127.0.0.1:8")) is None
    monkeypatch.setenv("ALL_PROXY", "http://three.example:3")
    monkeypatch.delenv("https_proxy" if lower else "HTTPS_PROXY")
    assert Connections().proxy_of(httpx.URL("https://registry.example")).url == "http://three.example:3"


@pytest.mark.parametrize(
    ("listed", "host", "direct"),
    [
        ("registry.example", "registry.example", True),
        ("registry.example", "eu.registry.example", True),
        ("registry.example", "badregistry.example", False),
        (".example", "registry.example", True),
        ("*.example", "registry.example", True),
        ("other, REGISTRY.example", "registry.example", True),
        ("other registry.example", "registry.example", True),
        ("*", "registry.example", True),
        ("registry.example:443", "registry.example", True),
        ("registry.example:80", "registry.example", False),
        ("https://registry.example", "registry.example", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("192.168.*", "192.168.4.5", True),
        ("fd00::7", "fd00::7", True),
        ("[fd00::7]", "fd00:0::7", True),
        ("[fd00::7]:443", "fd00::7", True),
        ("fd00::/8", "fd12::1", True),
        ("fd00::/8", "fe12::1", False),
        ("::1/128", "fd00::7", False),
        ("10.0.0.0/8", "fd00::7", False),
        ("10.0.0.0/99", "10.1.2.3", False),
        ("[", "registry.example", False),
        ("http://[", "registry.example", False),
        ("é.example", "registry.example", False),
        ("%%,,://,.,:,]:[", "registry.example", False),
        ("", "registry.example", False),
    ],
)
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_no_proxy_is_understood_and_never_trips_anything(monkeypatch, variable, listed, host, direct):
    monkeypatch.setenv(variable, listed)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert bypassed(host, 443) is direct
    shown = f"[{host}]" if ":" in host else host
    assert (Connections().proxy_of(httpx.URL(f"https://{shown}")) is None) is direct


@pytest.mark.parametrize("verb", [("sync",), ("config", "check"), ("doctor",)])
def test_every_verb_passes_over_a_folder_of_certificates_that_is_gone_where_the_configuration_names_some(
    root, tls, verb
):
    with FaultyUpstream(many_models(1)) as upstream:
        named = {"SSL_CERT_DIR": "/nonexistent", "MIRROR_UPSTREAM_CA_FILE": str(tls / "ca.pem")}
        done = mirror(*verb, env=environment(upstream, root, **named))
    assert done.returncode == 0
    assert "SSL_CERT_DIR" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "bad", [{"SSL_CERT_FILE": "/nonexistent/ca.pem"}, {"HTTPS_PROXY": "socks4://u:hunter2@p:1"}, {"SSLKEYLOGFILE": "/"}]
)
@pytest.mark.parametrize("verb", [("sync",), ("sync", "--dry-run"), ("config", "check"), ("doctor",)])
def test_every_verb_that_meets_such_a_variable_says_so_in_a_line(root, bad, verb):
    ((variable, _),) = bad.items()
    with FaultyUpstream(many_models(1)) as upstream:
        done = mirror(*verb, env=environment(upstream, root, **bad))
    assert done.returncode == (1 if verb == ("doctor",) else 2)
    assert f"environment {variable}: " in done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    if verb != ("doctor",):
        assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler to change the clock of one process")
def test_a_clock_that_no_nanoseconds_hold_is_told_in_words(tmp_path):
    source = tmp_path / "clock.c"
    source.write_text(
        "#include <time.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n"
        "int clock_gettime(clockid_t id, struct timespec *t) { long r = syscall(SYS_clock_gettime, id, t);"
        " if (id == CLOCK_REALTIME) t->tv_sec += 400L * 31556952; return r; }\n"
    )
    library = tmp_path / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    for verb in ("sync", "list", "status", "gc", "verify", "serve"):
        done = mirror("--root", str(tmp_path / "root"), verb, env={**base_environment(), "LD_PRELOAD": str(library)})
        assert done.returncode == 1
        assert done.stderr.startswith("mirror: the clock of this machine is beyond the year 2262"), done.stderr
        assert done.stderr.count("\n") == 1
