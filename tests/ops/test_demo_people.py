"""The demo as a region of people: who sees what of one document, who can log in, and what the README shows of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
import pytest

import commanding
from hearing import hear
from obieg.ops.demo_facts import protagonist
from obieg.ops.demo_people import Secret
from obieg.ops.population import SEED, demo_documents, people
from obieg.ops.postgres import Server
from obieg.ops.ready import PESEL_ROOT
from obieg.web.areas import PROFESSIONALS

pytestmark = [pytest.mark.node, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "obieg", "demo", "--headless", "--patients", "40", "--documents", "60"]


WHY = "Nieprzytomna, brak wywiadu."  # as the README says it


class Demo:
    """A running one."""

    def __init__(self, folder: Path, endpoints: dict[str, Any]) -> None:
        self.folder = folder
        self.node = folder / "demo.json"
        self.endpoints = endpoints
        self.patient = endpoints["shown"]["patient"]
        self.document = endpoints["shown"]["document"]

    def obieg(self, *arguments: str, status: int = 0) -> str:
        done = commanding.obieg(*arguments, folder=self.folder, environment=os.environ | {"COLUMNS": "100"})
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status == 0 else done.stdout + done.stderr

    def found(self, who: str, *more: str) -> list[str]:
        """The uniqueIds that somebody finds of the patient."""
        out = self.obieg("find", "--patient", self.patient, "--as", who, "--json", "--node", str(self.node), *more)
        return [entry["unique_id"] for entry in json.loads(out)]

    def explained(self, who: str, *more: str, status: int = 0) -> dict[str, Any]:
        person = self.endpoints["people"].get(who)
        asked = ["--who", person["person"] if person else who, "--role", person["role"] if person else "patient"]
        if person:
            asked += ["--organisation", person["organisation"]]
        asked += ["--patient", self.patient, "--document", self.document, "--node", str(self.node), "--json", *more]
        done: dict[str, Any] = json.loads(self.obieg("access", "explain", *asked, status=status))
        return done


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    ready, log = folder / "demo.json", folder / "demo.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*COMMAND, "--data", folder / "data", "--ready-file", ready],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
        )
    try:
        deadline = time.monotonic() + 180
        while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        assert ready.exists(), log.read_text()
        yield Demo(folder, json.loads(ready.read_text()))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for each in (folder / "data").glob("*/node.log"):
            hear(each)


def test_four_people_ask_for_one_document_and_get_four_answers(demo: Demo) -> None:
    assert demo.document in demo.found("lekarz-poz"), "the chosen doctor sees it"
    assert demo.explained("lekarz-poz")["grounds"] == ["author", "poz"], "an author needs nothing to be one"
    got = demo.obieg("get", demo.document, "-o", "-", "--as", "lekarz-poz", "--node", str(demo.node))
    assert "ClinicalDocument" in got

    assert demo.document not in demo.found("lekarz-szpital"), "a doctor without a basis does not"
    said = demo.obieg("get", demo.document, "-o", "-", "--as", "lekarz-szpital", "--node", str(demo.node), status=1)
    missing = demo.obieg("get", "1.2.3.4", "-o", "-", "--as", "lekarz-szpital", "--node", str(demo.node), status=1)
    assert said.replace(demo.document, "1.2.3.4") == missing, "as if it did not exist"
    refused = demo.explained("lekarz-szpital", status=5)
    assert not refused["may"]
    assert "emergency" in refused["obtainable"]

    assert demo.document in demo.found(demo.patient), "it is the patient's"
    assert demo.explained(demo.patient)["grounds"] == ["patient"]

    told = demo.obieg(
        *("demo-emergency", "--patient", demo.patient, "--as", "lekarz-szpital"),
        *("--text", WHY, "--node", str(demo.node)),
    )
    assert "until" in told
    assert demo.document in demo.found("lekarz-szpital", "--purpose", "BTG")
    assert demo.document not in demo.found("lekarz-szpital"), "for another purpose it opens nothing"
    opened = demo.explained("lekarz-szpital", "--purpose", "BTG")
    assert opened["grounds"] == ["author", "emergency"]
    assert opened["ends"].keys() == {"emergency"}

    reviews = demo.obieg("access", "reviews", "list", "--node", str(demo.node))
    assert WHY in reviews, "the officer is told"
    log = demo.obieg("access", "log", "--patient", demo.patient, "--node", str(demo.node))
    assert demo.endpoints["people"]["lekarz-szpital"]["person_name"] in log, "the patient sees who it was"


def test_the_facts_of_the_population_are_known(demo: Demo) -> None:
    """Each kind that the population has by chance is in the world that was loaded."""
    kinds = {path.stem: path.read_text().splitlines() for path in (demo.folder / "data" / "world").glob("*.ndjson")}
    assert set(kinds) >= {"CareTeam", "Consent", "RelatedPerson"}
    consents = [json.loads(line) for line in kinds["Consent"]]
    assert {c["provision"]["type"] for c in consents if "provision" in c} == {"permit", "deny"}
    guardian = next(r for r in map(json.loads, kinds["RelatedPerson"]) if "GUARD" in json.dumps(r["relationship"]))
    child, parent = guardian["patient"]["identifier"]["value"], guardian["identifier"][0]["value"]
    node = str(demo.node)
    asked = ("access", "explain", "--who", parent, "--role", "patient", "--patient", child, "--node", node, "--json")
    assert json.loads(demo.obieg(*asked))["grounds"] == ["guardian"]
    stranger = ("access", "explain", "--who", demo.patient, *asked[4:])
    assert not json.loads(demo.obieg(*stranger, status=5))["may"]


def test_documents_of_hospitals_open_at_the_region(demo: Demo) -> None:
    desk, pages = demo.endpoints["desk"], demo.endpoints["pages"]
    own = {"Origin": desk, "Sec-Fetch-Site": "same-origin"}
    entered = httpx.post(f"{desk}/enter", data={"login": "lekarz-poz"}, headers=own, timeout=30)
    with httpx.Client(cookies={"obieg": entered.cookies["obieg"]}, timeout=60) as browser:
        asked = {"patient.identifier": f"urn:oid:{PESEL_ROOT}|{demo.patient}", "status": "current"}
        found = browser.get(f"{pages}/fhir/DocumentReference", params=asked).json()["entry"]
        assert found
        for resource in (entry["resource"] for entry in found):
            given = browser.get(f"{pages}/fhir/Binary/{resource['id']}")
            assert given.status_code == 200, given.text
            if given.headers["content-type"] == "application/dicom":
                continue
            assert b"ClinicalDocument" in given.content
            whose = resource["subject"]["reference"].rpartition("/")[2]
            page = browser.get(f"{pages}/work/treatment/{whose}/document/{resource['id']}")
            assert f"/document/{resource['id']}/pdf" in page.text, "its content is shown"
    gave = [key for key in demo.endpoints["nodes"] if "ITI-43" in audited(demo.folder / "data" / key)]
    assert gave, "some lay at a hospital"


def audited(folder: Path) -> set[str]:
    """What a node has recorded."""
    with psycopg.connect(Server(folder / "data" / "postgres").dsn) as connection:
        return {row[0] for row in connection.execute("SELECT DISTINCT transaction FROM audit_event")}


def form_token(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found, page[:500]
    return found[1]


def test_a_study_is_one_click_away(demo: Demo) -> None:
    """Without an archive installed: a stand-in draws it, and the node gives it out as it would any other."""
    desk, pages = demo.endpoints["desk"], demo.endpoints["pages"]
    with httpx.Client(follow_redirects=False, timeout=60) as browser:
        assert "RTG i tomografia" in browser.get(desk).text
        own = {"Origin": desk, "Sec-Fetch-Site": "same-origin"}
        answer = browser.post(f"{desk}/enter", data={"login": "lekarz-poz", "study": "1"}, headers=own)
        assert answer.headers["location"] == pages + demo.endpoints["shown"]["study"]
        here = {"cookies": {"obieg": answer.cookies["obieg"]}, "headers": {"Accept-Language": "pl"}, "timeout": 60}
        viewer = httpx.get(answer.headers["location"], **here)
        assert viewer.status_code == 200, viewer.text
        assert "RTG i TK klatki piersiowej" in viewer.text
        assert "Widzisz, bo" in viewer.text
        pictures = re.findall(r'<img class="im"[^>]* src="([^"]+)"', viewer.text)
        assert len(pictures) == 2, "a radiograph and a stack of slices"
        for path in pictures:
            picture = httpx.get(pages + path, **here)
            assert (picture.status_code, picture.content[:4]) == (200, b"\x89PNG")
        data = json.loads(
            re.search(r'<script type="application/json" id="images">(.*?)</script>', viewer.text, re.DOTALL)[1]
        )
        image = data["images"][0]
        frame = httpx.get(f"{pages}{data['base']}/instances/{image['instance']}/frames/1", **here)
        assert frame.status_code == 200
        assert image["rows"] * image["columns"] * image["bits"] // 8 <= len(frame.content)
        other = browser.post(f"{desk}/enter", data={"login": "lekarz-szpital", "study": "1"}, headers=own)
        here["cookies"] = {"obieg": other.cookies["obieg"]}
        assert httpx.get(other.headers["location"], **here).status_code == 404, "whom nothing connects with the patient"
        assert httpx.get(pages + pictures[0], **here).status_code == 404


def test_the_desk_logs_in_with_one_click(demo: Demo) -> None:
    desk, pages = demo.endpoints["desk"], demo.endpoints["pages"]
    with httpx.Client(follow_redirects=False, timeout=30) as browser:
        page = browser.get(desk).text
        assert "To jest pokaz" in page
        own = {"Origin": desk, "Sec-Fetch-Site": "same-origin"}
        for login, person in demo.endpoints["people"].items():
            assert person["person_name"] in page
            answer = browser.post(f"{desk}/enter", data={"login": login}, headers=own)
            assert answer.status_code == 303, answer.text
            account = httpx.get(
                f"{pages}/account", cookies={"obieg": answer.cookies["obieg"]}, headers={"Accept-Language": "pl"}
            )
            assert account.status_code == 200
            assert person["person_name"] in account.text
        elsewhere = {"Origin": "http://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
        assert browser.post(f"{desk}/enter", data={"login": "lekarz-poz"}, headers=elsewhere).status_code == 403
        assert browser.post(f"{desk}/enter", data={"login": "nobody"}, headers=own).status_code == 404
        rebound = browser.get(desk, headers={"Host": "rebound.example"})
        assert rebound.status_code == 302
        assert "Hasło" not in rebound.text


def test_an_assistant_reads_for_a_doctor(demo: Demo) -> None:
    """And beside the documents stand medical events, from their stand-in."""
    desk, pages = demo.endpoints["desk"], demo.endpoints["pages"]
    doctor = demo.endpoints["people"]["lekarz-poz"]
    own = {"Origin": desk, "Sec-Fetch-Site": "same-origin"}
    entered = httpx.post(f"{desk}/enter", data={"login": "asystentka"}, headers=own, timeout=30)
    cookies = {"obieg": entered.cookies["obieg"]}
    headers = {"Accept-Language": "pl", "Origin": pages}
    with httpx.Client(base_url=pages, cookies=cookies, headers=headers, follow_redirects=True, timeout=60) as browser:
        person = browser.get("/fhir/Patient", params={"identifier": f"urn:oid:{PESEL_ROOT}|{demo.patient}"}).json()
        record = f"{PROFESSIONALS}/treatment/{person['entry'][0]['resource']['id']}"
        assert 'id="timeline"' not in browser.get(record).text, "in nobody's name an assistant reads nothing"
        page = browser.get(PROFESSIONALS).text
        assert doctor["person_name"] in page
        said = {"csrf": form_token(page), "professional": doctor["person"], "then": record}
        shown = browser.post(f"{PROFESSIONALS}/acting", data=said).text
        assert 'id="timeline"' in shown
        assert f"W imieniu: {doctor['person_name']}" in shown
        assert "(atrapa P1)" in shown


def test_a_hospitals_own_system_opens_a_record(demo: Demo) -> None:
    ward, pages = demo.endpoints["ward"], demo.endpoints["pages"]
    doctor = demo.endpoints["people"]["lekarz-szpital"]["person_name"]
    with httpx.Client(follow_redirects=True, timeout=60, headers={"Accept-Language": "pl"}) as browser:
        page = browser.get(ward).text
        assert "TO NIE JEST PRAWDZIWY SYSTEM SZPITALA" in page
        assert doctor in page
        *staying, stranger = re.findall(r'name="pesel" value="(\d{11})"', page)
        assert staying, "somebody lies there"
        assert stranger == demo.patient
        opened = browser.post(f"{ward}launch", data={"pesel": staying[0], "purpose": "TREAT"})
        assert opened.status_code == 200, opened.text
        assert str(opened.url).startswith(f"{pages}/work/treatment/")
        assert "pacjent leczy się teraz w tej placówce" in opened.text
        account = browser.get(f"{pages}/account").text
        assert doctor in account
        assert "z systemu szpitala" in account
        urgent = browser.post(f"{ward}launch", data={"pesel": stranger, "purpose": "BTG"})
        assert str(urgent.url).startswith(f"{pages}/work/emergency/")
        assert urgent.status_code == 200, "the page of an emergency, whether one is open or not"
        asked = {"data": {"pesel": "00000000000", "purpose": "TREAT"}}
        assert browser.post(f"{ward}launch", **asked).status_code == 404
        elsewhere = {"Sec-Fetch-Site": "cross-site"}
        assert browser.post(f"{ward}launch", **asked, headers=elsewhere).status_code == 403


def test_a_password_and_a_code_log_in_as_everywhere(demo: Demo) -> None:
    pages = demo.endpoints["pages"]
    secret = msgspec.json.decode(Path(demo.endpoints["accounts"]).read_bytes(), type=dict[str, Secret])["pielegniarka"]
    with httpx.Client(follow_redirects=True, timeout=30, headers={"Origin": pages}) as browser:
        page = browser.get(f"{pages}/login")
        fields = {"csrf": form_token(page.text), "login": "pielegniarka", "password": secret.password}
        page = browser.post(f"{pages}/login", data=fields)
        assert page.url.path == "/login/totp"
        for step in (-1, 0, 1):  # the desk may have used some
            code = secret.code(datetime.now(UTC), step)
            page = browser.post(f"{pages}/login/totp", data={"csrf": form_token(page.text), "code": code})
            if page.status_code == 200:
                break
        assert page.status_code == 200
        assert page.url.path != "/login/totp"
        assert demo.endpoints["people"]["pielegniarka"]["person_name"] in browser.get(f"{pages}/account").text


def test_patients_log_in_by_the_stand_in(demo: Demo) -> None:
    pages = demo.endpoints["pages"]
    with httpx.Client(follow_redirects=True, timeout=30) as browser:
        page = browser.get(f"{pages}/login/wk", params={"return": "/account"})
        there = re.search(r'action="([^"]+)"', page.text)
        assert there
        hidden = dict(re.findall(r'name="(SAMLRequest|RelayState)" value="([^"]+)"', page.text))
        page = browser.post(there[1], data=hidden)
        assert "TO NIE JEST PRAWDZIWE LOGOWANIE" in page.text
        assert demo.patient in page.text
        assert "działa także za swoje dzieci" in page.text
        number = re.search(rf'value="(\d+)">[^<]*{demo.patient}', page.text)
        ticket = re.search(r'name="ticket" value="([^"]+)"', page.text)
        assert number
        assert ticket
        base = there[1].partition("/login/")[0]
        page = browser.post(f"{base}/login/choose", data={"ticket": ticket[1], "person": number[1], "level": ""})
        assert page.status_code == 200, page.text
        assert str(page.url).startswith(pages)
        assert browser.get(f"{pages}/account").status_code == 200
        assert any(cookie.name == "obieg-patient" for cookie in browser.cookies.jar)
        listed = browser.get(f"{pages}/patient/documents").text
        documents = sorted(set(re.findall(r'href="(/patient/documents/[0-9a-f-]{36})"', listed)))
        assert documents
        for path in documents:  # wherever they lie
            page = browser.get(pages + path)
            assert page.status_code == 200
            assert f"{path}/pdf" in page.text or f"{path}/images" in page.text, "its content is shown"


def test_strangers_are_refused(demo: Demo) -> None:
    """Without a certificate, or with none that is known, nothing is told."""
    endpoints = demo.endpoints
    with httpx.Client(verify=ssl.create_default_context(cafile=endpoints["tls_ca"]), timeout=30) as http:
        assert http.get(f"{endpoints['fhir']}/Patient", params={"family": "Kowalska"}).status_code == 401
    assert httpx.get(f"{endpoints['pages']}/fhir/Patient", params={"family": "Kowalska"}).status_code == 401


def readme_commands() -> list[tuple[str, str]]:
    """Each command of the README's section, and what it shows of its output."""
    text = (ROOT / "README.md").read_text("utf-8")
    section = text.partition("\n## Four people ask for the same document\n")[2].partition("\n## ")[0]
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"(?:^    .*\n|^\n)+", section, re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("    $ "):
                found.append((line.removeprefix("    $ "), []))
            elif line.startswith("    ") and found:
                found[-1][1].append(line.removeprefix("    "))
    return [(command, "\n".join(shown)) for command, shown in found]


def test_the_readme_shows_true_answers(demo: Demo) -> None:
    """The commands are those of the README, the patient and the document are of this smaller population."""
    commands = readme_commands()
    assert len(commands) >= 4
    shown_to_all = protagonist(list(demo_documents(people())), SEED)
    assert shown_to_all
    patient, document = shown_to_all
    given: dict[str, str] = {}
    for command, shown in commands:
        if assigned := re.fullmatch(r"(P|D)='?([^']+)'?", command):
            given[assigned[1]] = assigned[2]
            continue
        assert given == {"P": patient.pesel, "D": document.unique_id}, "those of the population that everybody gets"
        words = [
            {"$P": demo.patient, "$D": demo.document, "demo-data/ready.json": str(demo.node)}.get(word, word)
            for word in shlex.split(command)
        ]
        assert words[:2] == ["./run", "obieg"], command
        done = commanding.obieg(*words[2:], folder=demo.folder, environment=os.environ | {"COLUMNS": "100"})
        out = (done.stdout + done.stderr).replace(demo.patient, given["P"]).replace(demo.document, given["D"])
        for line in filter(None, map(str.strip, shown.splitlines())):
            if line != "…":
                pattern = re.escape(line).replace("…", ".*")
                assert re.search(pattern, out), f"{command}\n{line}\nis not in\n{out}"
