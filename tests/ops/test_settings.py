"""Settings: read, explained, refused; and their page and file made from the same model."""

from __future__ import annotations

import pickle
import tomllib

import pytest
from tools import settings_page

from obieg.ops import settings as node_settings
from obieg.ops.failure import Failure

IDENTITY = {"home_community_id": "1.2.1", "repository_unique_id": "1.2.2", "assigning_authority": "1.2.3"}
REGION = {"role": "region", "data_dir": "data", "identity": IDENTITY}
URLS = {"register_url": "http://region/services/register", "query_url": "http://region/services/registry"}
FACILITY = {"role": "facility", "data_dir": "data", "identity": IDENTITY, "registry": URLS}


def make(given, folder):
    return node_settings.make(given, "the test", folder)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    import os

    for name in [name for name in os.environ if name.startswith("OBIEG_")]:
        monkeypatch.delenv(name)


def test_defaults(tmp_path):
    settings = make(REGION, tmp_path)
    assert settings.workers == 2
    assert settings.data_dir == tmp_path / "data"
    assert settings.limits.document_bytes_max == 2**30
    assert settings.limits.message_bytes_max == 32 * 2**20
    assert settings.limits.parts_max == 100
    assert settings.limits.mllp_frame_bytes_max == 2**20
    assert settings.affinity_domain.codes is None
    assert not settings.affinity_domain.allow_limited_metadata
    assert settings.store.kind == "segments"
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("more", "enforced"),
    [
        ({}, False),
        ({"trust": {"file": "trust.json"}}, True),
        ({"trust": {"file": "trust.json"}, "lab": True}, False),
        ({"trust": {"file": "trust.json"}, "lab": True, "access": {"enforced": True}}, True),
        ({"trust": {"file": "trust.json"}, "access": {"enforced": False}}, False),
    ],
)
def test_access_is_enforced_where_callers_prove_who_they_are(more, enforced, tmp_path):
    assert make({**REGION, **more}, tmp_path).access_enforced is enforced


@pytest.mark.parametrize(
    ("role", "known"),
    [
        ("region", {"nodes": [{"name": "A", "address": "127.0.0.2", "repository_unique_id": "1.2.4"}]}),
        ("region", {"authorities": [{"oid": "1.2.5", "name": "A", "assigners": ["HIS", "ŁÓDŹ"]}, {"oid": "1.2.6"}]}),
        ("facility", {"registry": URLS, "nodes": [{"name": "HIS", "address": "127.0.0.1"}]}),
    ],
)
def test_written_file_is_read_back(role, known, tmp_path):
    text = node_settings.write_commented(role, data_dir="d", name='a "quoted" ł', identity=IDENTITY, **known)
    (tmp_path / "settings.toml").write_text(text, "utf-8")
    assert node_settings.load(tmp_path / "settings.toml") == make(
        {"role": role, "data_dir": "d", "name": 'a "quoted" ł', "identity": IDENTITY, **known}, tmp_path
    )


@pytest.mark.parametrize("role", ["region", "facility"])
def test_every_default_in_the_file_is_the_default(role, tmp_path):
    text = node_settings.write_commented(role, data_dir="d", identity=IDENTITY, registry=URLS)
    lines = []
    for line in text.splitlines():
        body = line.removeprefix("# ")
        if line.startswith("# ") and " = " in body and body.split(" = ")[0].isidentifier():
            lines.append(body)
        elif not line.startswith("# [["):
            lines.append(line)
        else:
            break
    given = tomllib.loads("\n".join(lines))
    plain = {"role": role, "data_dir": "d", "identity": IDENTITY} | ({"registry": URLS} if role == "facility" else {})
    assert make(given, tmp_path) == make(plain, tmp_path)


def test_environment_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("OBIEG_HTTP__PORT", "99")
    monkeypatch.setenv("OBIEG_WORKERS", "7")
    monkeypatch.setenv("OBIEG_TEST_DSN", "is not a setting")
    settings = make({**REGION, "http": {"port": 1, "host": "127.0.0.9"}}, tmp_path)
    assert (settings.http.port, settings.http.host, settings.workers) == (99, "127.0.0.9", 7)


def test_paths_are_relative_to_the_file(tmp_path):
    given = {**REGION, "affinity_domain": {"codes": "codes.json"}, "store": {"master_key_file": "/k"}}
    settings = make(given, tmp_path)
    assert settings.affinity_domain.codes == tmp_path / "codes.json"
    assert str(settings.store.master_key_file) == "/k"


def test_secrets_are_not_shown(tmp_path):
    given = {**REGION, "database": {"dsn": "host=h password=geheim"}, "store": {"s3_secret_key": "geheim"}}
    settings = make(given, tmp_path)
    assert "geheim" not in repr(settings) + str(settings)
    assert settings.database.dsn == "host=h password=geheim"
    assert settings.store.s3_secret_key.get_secret_value() == "geheim"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({**REGION, "http": {"prot": 1}}, "http.prot: there is no such setting; did you mean http.port?"),
        ({**REGION, "http": {"port": 70000}}, "http.port: "),
        ({**REGION, "identity": {**IDENTITY, "home_community_id": "urn:oid:1.2"}}, "identity.home_community_id: must be"),
        ({**REGION, "identity": {}}, "identity.home_community_id: is missing"),
        ({"role": "region", "data_dir": "d"}, "identity: is missing"),
        ({**REGION, "role": "hospital"}, "role: "),
        ({**REGION, "registry": URLS}, "registry: a region is the registry itself"),
        ({**FACILITY, "registry": {}}, "registry: a facility needs"),
        ({**FACILITY, "nodes": [{"name": "a", "address": ""}]}, "nodes: address: "),
        ({**REGION, "nodes": [{"name": "a", "address": "::1", "repository_unique_id": "x"}]}, "nodes.repository_unique_id: "),
        ({**REGION, "nodes": [{"name": "a", "address": "no", "repository_unique_id": "1.2"}]}, "nodes.address: "),
        ({**REGION, "authorities": [{"oid": "1.2"}, {"oid": "1.2"}]}, "authorities: two of them have the same oid"),
        ({**REGION, "authorities": [{"oid": "1.2", "name": "A"}, {"oid": "1.3", "name": "A"}]}, "have the same name"),
        ({**REGION, "authorities": [{"oid": "SZPITAL"}]}, "authorities.oid: must be an object identifier"),
        ({**REGION, "store": {"kind": "s3"}}, "store: kind s3 needs s3_url"),
        ({**REGION, "lab": True, "http": {"host": "0.0.0.0"}}, "lab: a laboratory proves nobody's identity"),
        ({**REGION, "limits": {"depth_max": 1000}}, "limits.depth_max: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(given, said, tmp_path):
    with pytest.raises(Failure) as refused:
        make(given, tmp_path)
    assert said in refused.value.what


def test_everything_wrong_is_named_at_once(tmp_path):
    with pytest.raises(Failure) as refused:
        make({**REGION, "workers": 0, "http": {"port": -1}, "colour": 1}, tmp_path)
    assert all(name in refused.value.what for name in ("workers", "http.port", "colour"))


def test_unreadable_files(tmp_path):
    with pytest.raises(Failure, match="cannot be read"):
        node_settings.load(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("role = region")
    with pytest.raises(Failure, match="not valid TOML"):
        node_settings.load(tmp_path / "bad.toml")


def test_every_setting_says_what_it_is_and_what_it_is_measured_in():
    for setting in node_settings.every_setting():
        assert setting.description.endswith("."), setting.key
        if "seconds" in setting.description.lower():
            assert setting.name.endswith("_s"), setting.key
        if "bytes" in setting.description.lower():
            assert "bytes" in setting.name, setting.key


def test_page_is_current():
    assert settings_page.PATH.read_text("utf-8") == settings_page.page(), "run: python -m tools.settings_page"


def test_new_oids_are_oids():
    from obieg.domain.identifiers import is_oid

    oids = {node_settings.new_oid() for _ in range(100)}
    assert len(oids) == 100
    assert all(map(is_oid, oids))


SUBSCRIBER = {"name": "HIS", "protocol": "pix_v2", "address": "10.0.0.1:2575"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"protocol": "pix_v4"}, "protocol"),
        ({"address": "10.0.0.1"}, "host:port"),
        ({"address": "http://10.0.0.1/"}, "host:port"),
        ({"protocol": "pix_v3"}, "http or https"),
        ({"protocol": "pix_v3", "address": "https://a/b"}, "OID of the receiving device"),
        ({"authorities": ["PESEL"]}, "object identifier"),
        ({"ca_file": "ca.pem"}, "mllps://"),
        ({"address": "mllps://a:1", "key_file": "k.pem"}, "belong together"),
        ({"name": ""}, "name"),
    ],
)
def test_subscribers_that_cannot_be_told(changed, said, tmp_path):
    make({**REGION, "subscribers": [SUBSCRIBER]}, tmp_path)
    with pytest.raises(Failure, match="not right") as failure:
        make({**REGION, "subscribers": [{**SUBSCRIBER, **changed}]}, tmp_path)
    assert said in failure.value.what


def test_subscribers(tmp_path):
    secured = {"name": "POZ", "address": "mllps://[::1]:1", "protocol": "xad_pid", "ca_file": "ca.pem"}
    v3 = {
        "name": "v3",
        "address": "https://a/b",
        "protocol": "pix_v3",
        "application": "1.2.3",
        "authorities": ["1.2", "1.3"],
    }
    settings = make({**REGION, "subscribers": [SUBSCRIBER, secured, v3]}, tmp_path)
    assert [s.ca_file for s in settings.subscribers] == [None, tmp_path / "ca.pem", None]
    assert settings.subscribers[2].authorities == ("1.2", "1.3")
    with pytest.raises(Failure, match="the same name"):
        make({**REGION, "subscribers": [SUBSCRIBER, SUBSCRIBER]}, tmp_path)
