"""The engine's HTTP service over real sockets: what clients, good and bad, get to see of it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from puppets import Puppet, Unmade

from engine.api import PROTOCOL, ChainRequest, FitRequest, MorphRequest, PaintRequest, Request, Stop, StylizeRequest
from engine.server import Service, listening

TOKEN = "a shared secret"

Open = Callable[..., Awaitable["Api"]]


class Api:
    """Speaks plain HTTP to a service, as curl would."""

    def __init__(self, session: aiohttp.ClientSession, service: Service) -> None:
        self.session = session
        self.service = service

    def post(self, request: Request | bytes, **query: str) -> Any:
        body = request if isinstance(request, bytes) else json.dumps(request.to_wire()).encode()
        return self.session.post("/v1/jobs", data=body, params=query)

    async def events(self, request: Request | bytes, **query: str) -> list[dict[str, Any]]:
        """Return the lines that answer a job, and behind a result the pictures in place of their sizes."""
        async with self.post(request, **query) as answer:
            return await _events(answer)

    async def outcome(self, request: Request | bytes, **query: str) -> dict[str, Any]:
        return (await self.events(request, **query))[-1]

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(path) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def serve() -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def open_service(factory: Any = Puppet, **options: Any) -> Api:
            service = Service(factory, factory, token=TOKEN, **options)
            address = await stack.enter_async_context(listening(service, host="127.0.0.1"))
            headers = {"Authorization": f"Bearer {TOKEN}", "X-Ganvas-Protocol": str(PROTOCOL)}
            session = await stack.enter_async_context(aiohttp.ClientSession(address, headers=headers))
            return Api(session, service)

        yield open_service


async def _events(answer: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    events = []
    async for line in answer.content:
        events.append(json.loads(line))
        for output in events[-1].get("result", {}).get("outputs", ()):
            output["data"] = await answer.content.readexactly(output["data"]["bytes"])
    return events


class Gate:
    """A job that holds the worker until it is opened."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gate"
        self.request = StylizeRequest(photo=b"", style=f"wait:{self.path}")

    def open(self) -> None:
        self.path.touch()

    async def was_cancelled(self) -> bool:
        sign = Path(f"{self.path}.cancelled")
        while not sign.exists():
            await asyncio.sleep(0.01)
        return True


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


async def _at_work(api: Api, request: Request, **query: str) -> aiohttp.ClientResponse:
    """Post a job and return once it is at work."""
    answer = await api.post(request, **query)
    async for line in answer.content:
        if json.loads(line)["progress"]["stage"] == "working":
            break
    return answer


async def test_a_job_tells_its_progress_and_then_its_result(serve: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.jobs.STEP", 0.0)
    api = await serve()
    events = await api.events(StylizeRequest(photo=b"my photo", style="sleep:0.2"), job="mine")
    assert events[0] == {"progress": {"stage": "queued", "place": 0, "share": 0.0}}
    shares = [event["progress"]["share"] for event in events[:-1]]
    assert shares == sorted(shares)
    assert shares[-2] > 0.5
    assert events[-1]["result"]["outputs"][0]["data"] == b"my photo"


async def test_a_job_of_many_quick_steps_tells_few_of_them(serve: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.jobs.STEP", 60.0)
    api = await serve()
    events = await api.events(StylizeRequest(photo=b"", style="sleep:0.02"))
    assert [event.get("progress", {}).get("stage") for event in events] == ["queued", "working", "done", None]


async def test_a_form_carries_pictures_as_plain_bytes(serve: Open) -> None:
    api = await serve()
    form = aiohttp.FormData({"request": '{"command": "stylize", "strength": 0.5}'})
    form.add_field("photo", b"my photo", filename="photo.jpg")
    async with api.session.post("/v1/jobs", data=form) as answer:
        assert (await _events(answer))[-1]["result"]["outputs"][0]["data"] == b"my photo"


@pytest.mark.parametrize(
    ("header", "value", "status", "code"),
    [
        ("Authorization", "Bearer wrong", 401, "wrong_token"),
        ("Authorization", "Bearer ünknown", 401, "wrong_token"),
        ("Authorization", "", 401, "wrong_token"),
        ("X-Ganvas-Protocol", "99", 426, "version_mismatch"),
    ],
)
async def test_strangers_are_refused_by_name(serve: Open, header: str, value: str, status: int, code: str) -> None:
    api = await serve()
    for path in ("/v1", "/v1/models"):
        async with api.session.get(path, headers={header: value}) as answer:
            assert answer.status == status
            assert (await answer.json())["error"]["code"] == code


async def test_metrics_need_the_token_and_health_does_not(serve: Open) -> None:
    api = await serve()
    for path, status in (("/metrics", 401), ("/healthz", 200)):
        async with api.session.get(path, headers={"Authorization": "Bearer wrong"}) as answer:
            assert answer.status == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\xff\xfe garbage",
        b"[]",
        b"[" * 100_000,
        b'"text"',
        b"{}",
        b'{"command": ["stylize"]}',
        b'{"command": "rm -rf"}',
        b'{"command": "stylize"}',
        b'{"command": "stylize", "photo": "not bytes"}',
        b'{"command": "stylize", "photo": {"base64": "?"}}',
        b'{"command": "stylize", "photo": {"base64": 7}}',
        b'{"command": "stylize", "photo": {"base64": ""}, "size": "large"}',
        b'{"command": "stylize", "photo": {"base64": ""}, "strength": NaN}',
        b'{"command": "stylize", "photo": {"base64": ""}, "nonsense": 1}',
        b'{"command": "paint", "genre": 5, "seed": 1}',
        b'{"command": "paint", "genre": "flowers", "seed": 1, "count": 1e999}',
        b'{"command": "paint", "genre": "flowers", "seed": ' + b"9" * 5000 + b"}",
        b'{"command": "morph", "stops": [1, 2]}',
        b'{"command": "morph", "stops": [{"genre": "flowers"}, {"sneed": 1}]}',
    ],
)
async def test_garbage_is_refused_in_one_sentence_and_the_engine_lives_on(serve: Open, body: bytes) -> None:
    api = await serve()
    async with api.post(body) as answer:
        assert answer.status in (400, 404)
        error = (await answer.json())["error"]
    assert error["code"] in ("invalid_request", "unknown_name")
    assert error["message"].count("\n") == 0
    assert "result" in await api.outcome(StylizeRequest(photo=b""))


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"no parts"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="request"\r\n\r\n{'),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--\r\n",
        ),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Encoding: gzip\r\n\r\nnot gzip\r\n--x--\r\n"),
    ],
)
async def test_a_broken_form_is_refused(serve: Open, content_type: str, body: bytes) -> None:
    api = await serve()
    async with api.session.post("/v1/jobs", data=body, headers={"Content-Type": content_type}) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["code"] == "invalid_request"
    assert "result" in await api.outcome(StylizeRequest(photo=b""))


async def test_a_body_beyond_the_cap_is_refused(serve: Open) -> None:
    api = await serve(max_body=10_000)
    form = aiohttp.FormData({"request": '{"command": "stylize"}'})
    form.add_field("photo", bytes(6_000), filename="a")
    form.add_field("style_image", bytes(6_000), filename="b")
    for body in (bytes(20_000), form):
        async with api.session.post("/v1/jobs", data=body) as answer:
            assert answer.status == 413
            assert (await answer.json())["error"]["code"] == "invalid_request"


async def test_raw_noise_on_the_socket_harms_nobody(serve: Open) -> None:
    api = await serve()
    address = api.session._base_url
    assert address and address.host and address.port
    for noise in (
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 99\r\n\r\n{",
    ):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(noise)
        writer.write_eof()
        await reader.read()
        writer.close()
        await writer.wait_closed()
    assert "result" in await api.outcome(StylizeRequest(photo=b""))


async def test_waiting_jobs_are_told_their_place(serve: Open, gate: Gate) -> None:
    api = await serve()
    first = await _at_work(api, gate.request)
    second, third = await api.post(StylizeRequest(photo=b"")), await api.post(StylizeRequest(photo=b""))
    assert json.loads(await second.content.readline())["progress"]["place"] == 1
    assert json.loads(await third.content.readline())["progress"]["place"] == 2
    gate.open()
    places = [json.loads(line).get("progress", {}).get("place") async for line in third.content]
    assert places[0] == 1
    first.close()
    second.close()


async def test_several_painters_share_one_line(serve: Open, gate: Gate) -> None:
    api = await serve(painters=2)
    first, second = [await _at_work(api, gate.request) for _ in range(2)]
    third = await api.post(StylizeRequest(photo=b""))
    assert json.loads(await third.content.readline())["progress"]["place"] == 2
    gate.open()
    for answer in (first, second, third):
        assert b'"result"' in await answer.read()


async def test_a_full_queue_says_so_with_its_length(serve: Open, gate: Gate) -> None:
    api = await serve(queue=2)
    answers = [await _at_work(api, gate.request), await api.post(gate.request), await api.post(gate.request)]
    async with api.post(gate.request) as answer:
        assert answer.status == 503
        error = (await answer.json())["error"]
    assert error["code"] == "busy"
    assert "2 jobs" in error["message"]
    gate.open()
    for answer in answers:
        assert b'"result"' in await answer.read()


async def test_paintings_that_wait_are_merged_into_one_batch(serve: Open, gate: Gate) -> None:
    api = await serve()
    hold = await _at_work(api, gate.request)
    jobs = [asyncio.create_task(api.outcome(PaintRequest(genre="flowers", seed=i))) for i in range(10)]
    jobs += [asyncio.create_task(api.outcome(PaintRequest(genre="flowers", seed=i, model="other"))) for i in range(2)]
    jobs += [asyncio.create_task(api.outcome(PaintRequest(genre="flowers", seed=i, width=1024))) for i in range(3)]
    jobs += [asyncio.create_task(api.outcome(PaintRequest(genre="flowers", seed=0), alone="1"))]
    while '"waiting": 16' not in (await api.get("/healthz"))[1]:
        await asyncio.sleep(0.01)
    gate.open()
    mates = [(await job)["result"]["outputs"][0]["recipe"]["mates"] for job in jobs]
    assert mates == [8] * 8 + [2] * 2 + [2] * 2 + [3] * 3 + [1]
    hold.close()


async def test_a_batch_holds_at_most_eight_pictures(serve: Open, gate: Gate) -> None:
    api = await serve()
    hold = await _at_work(api, gate.request)
    jobs = [asyncio.create_task(api.outcome(PaintRequest(genre="flowers", seed=i, count=3))) for i in range(3)]
    while '"waiting": 3' not in (await api.get("/healthz"))[1]:
        await asyncio.sleep(0.01)
    gate.open()
    assert sorted([(await job)["result"]["outputs"][0]["recipe"]["mates"] for job in jobs]) == [1, 2, 2]
    hold.close()


async def test_a_bad_request_does_not_spoil_the_batch(serve: Open, gate: Gate) -> None:
    api = await serve()
    hold = await _at_work(api, gate.request)
    orders = ["", "crash", "unknown:this", ""]
    jobs = [asyncio.create_task(api.outcome(PaintRequest(genre="sea", seed=1, art_style=order))) for order in orders]
    while '"waiting": 4' not in (await api.get("/healthz"))[1]:
        await asyncio.sleep(0.01)
    gate.open()
    good, crash, unknown, also_good = [await job for job in jobs]
    assert "result" in good
    assert "result" in also_good
    assert "ZeroDivisionError" in crash["error"]["message"]
    assert unknown["error"]["code"] == "unknown_name"
    hold.close()


async def test_reencoding_a_finished_picture_waits_for_no_painting(serve: Open, gate: Gate) -> None:
    api = await serve()
    hold = await _at_work(api, gate.request)
    assert "result" in await api.outcome(FitRequest(image=b""))
    gate.open()
    hold.close()


@pytest.mark.parametrize("how", ["delete", "hang up"])
async def test_a_job_at_work_is_cancelled(serve: Open, gate: Gate, how: str) -> None:
    api = await serve()
    answer = await _at_work(api, gate.request, job="mine")
    if how == "delete":
        async with api.session.delete("/v1/jobs/mine") as deleted:
            assert deleted.status == 200
        assert json.loads((await answer.read()).splitlines()[-1])["error"]["code"] == "cancelled"
    answer.close()
    assert await gate.was_cancelled()
    assert "result" in await api.outcome(StylizeRequest(photo=b""))


@pytest.mark.parametrize("how", ["delete", "hang up"])
async def test_a_waiting_job_is_cancelled_and_leaves_the_line(serve: Open, gate: Gate, how: str) -> None:
    api = await serve()
    hold = await _at_work(api, gate.request)
    answer = await api.post(StylizeRequest(photo=b""), job="mine")
    await answer.content.readline()
    if how == "delete":
        await api.session.delete("/v1/jobs/mine")
        assert json.loads((await answer.read()).splitlines()[-1])["error"]["code"] == "cancelled"
    answer.close()
    while '"waiting": 0' not in (await api.get("/healthz"))[1]:
        await asyncio.sleep(0.01)
    hold.close()


async def test_a_cancelled_mate_leaves_the_rest_of_the_batch_alone(serve: Open) -> None:
    api = await serve()
    requests = [PaintRequest(genre="sea", seed=i, art_style="sleep:0.3") for i in range(2)]
    jobs = [asyncio.create_task(api.outcome(request, job=f"{i}")) for i, request in enumerate(requests)]
    while (await api.session.delete("/v1/jobs/1")).status == 404:
        await asyncio.sleep(0.01)
    assert "result" in await jobs[0]
    assert (await jobs[1])["error"]["code"] == "cancelled"


async def test_cancelling_what_is_not_there_is_an_error(serve: Open) -> None:
    api = await serve()
    async with api.session.delete("/v1/jobs/nobody") as answer:
        assert answer.status == 404
        assert "nobody" in (await answer.json())["error"]["message"]


async def test_a_job_sent_again_takes_the_place_of_the_first(serve: Open, gate: Gate) -> None:
    api = await serve()
    answer = await _at_work(api, gate.request, job="mine")
    again = asyncio.create_task(api.outcome(StylizeRequest(photo=b"again"), job="mine"))
    assert json.loads((await answer.read()).splitlines()[-1])["error"]["code"] == "cancelled"
    assert "result" in await again


async def test_a_deadline_is_kept_at_work_and_in_line(serve: Open, gate: Gate) -> None:
    api = await serve()
    jobs = [api.outcome(gate.request, deadline="0.3"), api.outcome(gate.request, deadline="0.2")]
    for outcome in await asyncio.gather(*jobs):
        assert outcome["error"]["code"] == "deadline_exceeded"
    assert "result" in await api.outcome(StylizeRequest(photo=b""))


@pytest.mark.parametrize("deadline", ["soon", "-1", "0", "nan", "1e9"])
async def test_a_senseless_deadline_is_refused(serve: Open, deadline: str) -> None:
    api = await serve()
    async with api.post(StylizeRequest(photo=b""), deadline=deadline) as answer:
        assert answer.status == 400


async def test_health_tells_how_the_worker_is(serve: Open, gate: Gate) -> None:
    api = await serve()
    await api.outcome(StylizeRequest(photo=b""))
    status, text = await api.get("/healthz")
    assert (status, json.loads(text)["worker"]) == (200, "idle")
    answer = await _at_work(api, gate.request)
    status, text = await api.get("/healthz")
    assert (status, json.loads(text)["worker"]) == (200, "working")
    gate.open()
    answer.close()


async def test_health_does_not_praise_an_engine_that_cannot_paint(serve: Open) -> None:
    api = await serve(Unmade)
    assert "no models" not in str(await api.outcome(StylizeRequest(photo=b"")))  # details stay in the log
    assert (await api.get("/healthz"))[0] == 503


async def test_an_engine_whose_thread_never_comes_back_leaves(
    serve: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = asyncio.Event()
    monkeypatch.setattr("engine.server._leave_stuck", left.set)
    monkeypatch.setattr("engine.jobs.STUCK", 0.05)
    api = await serve()
    outcome = await api.outcome(StylizeRequest(photo=b"", style=f"stuck:{tmp_path / 'gate'}"), deadline="0.1")
    assert outcome["error"]["code"] == "deadline_exceeded"
    await left.wait()
    assert (await api.get("/healthz"))[0] == 503
    (tmp_path / "gate").touch()
    assert "result" in await api.outcome(StylizeRequest(photo=b""))


async def test_metrics_count_what_happened(serve: Open) -> None:
    api = await serve()
    await api.outcome(StylizeRequest(photo=b""))
    await api.outcome(StylizeRequest(photo=b"", style="unknown:x"))
    await api.outcome(ChainRequest(image=b"", models=("crash",)))
    page = (await api.get("/metrics"))[1]
    assert 'ganvas_requests_total{command="stylize",outcome="done"} 1.0' in page
    assert 'ganvas_requests_total{command="stylize",outcome="unknown_name"} 1.0' in page
    assert 'ganvas_requests_total{command="chain",outcome="error"} 1.0' in page
    assert 'ganvas_stage_seconds_count{stage="network"} 1.0' in page
    assert 'ganvas_stage_seconds_count{stage="queued"} 3.0' in page
    assert "ganvas_batch_jobs_count 3.0" in page
    assert "ganvas_queue_jobs 0.0" in page
    assert "process_resident_memory_bytes" in page


async def test_draining_finishes_what_is_at_hand_and_takes_nothing_new(serve: Open, gate: Gate) -> None:
    api = await serve()
    first = await _at_work(api, gate.request)
    second = await api.post(StylizeRequest(photo=b""))
    drain = asyncio.create_task(api.service.drain())
    await asyncio.sleep(0)
    async with api.post(StylizeRequest(photo=b"")) as refused:
        assert (await refused.json())["error"]["code"] == "engine_unavailable"
    gate.open()
    await drain
    assert b'"result"' in await first.read()
    assert b'"result"' in await second.read()


async def test_draining_gives_up_what_takes_too_long(serve: Open, gate: Gate) -> None:
    api = await serve()
    answer = await _at_work(api, gate.request)
    await api.service.drain(seconds=0.05)
    assert b"engine_unavailable" in await answer.read()


async def test_a_client_that_reads_nothing_holds_nobody_up(serve: Open) -> None:
    api = await serve()
    base = api.session._base_url
    assert base and base.host and base.port
    lazy = socket.create_connection((base.host, base.port))
    body = json.dumps(StylizeRequest(photo=b"", style="big:30000000").to_wire()).encode()
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    lazy.sendall(head.encode() + body)
    assert "result" in await api.outcome(StylizeRequest(photo=b""))
    lazy.close()


async def test_every_command_reaches_the_painter(serve: Open) -> None:
    api = await serve()
    stops = (Stop("flowers", 1), Stop("sea", 2))
    for request in (MorphRequest(stops=stops), ChainRequest(image=b"", models=("a",)), FitRequest(image=b"")):
        assert "result" in await api.outcome(request)
