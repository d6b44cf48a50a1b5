"""The whole pipeline in this process: plug-ins, resume, budget, second opinions, retries, rejects."""

import asyncio
import hashlib
import json
import random
import sqlite3
import tarfile
import threading

import pytest

from facemllm.annotation import (
    ANNOTATORS,
    AnnotateConfig,
    Annotation,
    AnnotatorConfig,
    Budget,
    Busy,
    FacePreparer,
    Item,
    NoAnswer,
    Patience,
    Prepared,
    Question,
    Rejection,
    Reply,
    RunConfig,
    Unusable,
    annotate,
    create_annotator,
    dry_run,
    load_prompt,
)
from facemllm.annotation.judge import ENDPOINT_FAILED
from facemllm.core.errors import ConfigError, DatasetError, FaceMLLMError, RegistryError

QUICK = Patience(retries=3, timeout=0.5, first_wait=0.001, longest_wait=0.05)
CAPTION = "The person has short hair and looks at the camera."


class Pictures:
    """A source of pictures without pixels."""

    def __init__(self, count: int) -> None:
        self.ids = [f"p/{index:04d}" for index in range(count)]

    def __iter__(self):
        return (Item(name, data=name.encode()) for name in self.ids)

    def parts(self):
        return [self]

    def count(self):
        return len(self.ids)


def prepare(item: Item) -> Prepared:
    data = item.read()
    return Prepared(data, hashlib.sha256(data).hexdigest(), (64, 64))


class Scripted:
    """An annotator that does what a script says: ``script(item, how often it was asked, turns)``."""

    name, endpoint = "scripted", None

    def __init__(self, script, model: str = "script-1") -> None:
        self.script, self.model, self.parameters = script, model, {"temperature": 0}
        self.asked: list[tuple[str, str]] = []
        self.at_once = self.most = 0

    async def __call__(self, question: Question, *, key: str) -> Reply:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.asked.append((question.item, key))
        try:
            await asyncio.sleep(0.001)
            times = sum(item == question.item for item, _ in self.asked)
            said = self.script(question, times)
            if isinstance(said, Exception):
                raise said
            if said == "hang":
                await asyncio.sleep(60)
            return said
        finally:
            self.at_once -= 1

    closed = False

    async def close(self) -> None:
        self.closed = True


def answer(question: Question, seed: str = "", **changes) -> Reply:
    rng = random.Random(f"{seed}{question.item}")
    said = {name: rng.choice(["yes", "no", "not visible"]) for name in question.prompt.attributes}
    value = {"caption": CAPTION, "attributes": said} | changes
    return Reply(json.dumps(value), tokens_in=100, tokens_out=50, served="script-1-0")


def run(tmp_path, script, count=20, *, config=None, second=None, **options):
    annotators = [Scripted(script)] + ([Scripted(second, "script-2")] if second else [])
    config = config or AnnotateConfig(
        images="-",
        annotator=AnnotatorConfig(name="scripted", price_in=10.0, price_out=100.0, terms="mine"),
        second=(AnnotatorConfig(name="scripted"),) if second else (),
        shard_size=8,
    )
    options.setdefault("patience", QUICK)
    options.setdefault("concurrency", 4)
    summary = annotate(
        config,
        tmp_path / "out",
        RunConfig(**options),
        annotators=annotators,
        source=Pictures(count),
        prepare=prepare,
    )
    return summary, annotators


def stored(tmp_path, kind: str) -> list[dict]:
    shards = sorted((tmp_path / "out").glob(f"{kind}s-*.jsonl"))
    return [json.loads(line) for shard in shards for line in shard.read_text().splitlines()]


def test_records_say_who_how_when_and_for_how_much(tmp_path):
    summary, _ = run(tmp_path, lambda question, _: answer(question))
    records = [Annotation.model_validate(record) for record in stored(tmp_path, "record")]
    assert sorted(record.id for record in records) == Pictures(20).ids
    assert len(list((tmp_path / "out").glob("records-*.jsonl"))) == 3  # 8, 8 and 4
    who = records[0].provenance
    assert (who.annotator, who.model, who.served, who.terms) == ("scripted", "script-1", "script-1-0", "mine")
    assert (who.tokens_in, who.tokens_out, who.requests, who.repaired) == (100, 50, 1, False)
    assert who.cost_usd == pytest.approx((100 * 10 + 50 * 100) / 1e6)
    assert who.prompt_hash == load_prompt("face").hash
    assert who.parameters == {"temperature": 0}
    assert records[0].picture.sha256 == hashlib.sha256(records[0].id.encode()).hexdigest()
    assert summary.to_dict()["cost_usd"] == pytest.approx(20 * who.cost_usd)
    sample = records[0].to_sample()
    assert sample.labels["attributes"] == {
        name: seen == "yes" for name, seen in records[0].attributes.items() if seen != "not visible"
    }


def test_the_bar_tells_how_it_stands(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    config = AnnotateConfig(images="-", annotator=AnnotatorConfig(name="scripted", price_out=1e5))
    annotator = Scripted(lambda question, _: answer(question))
    annotate(
        config, tmp_path / "out", annotators=[annotator], source=Pictures(9), prepare=prepare, progress=True
    )
    told = capsys.readouterr()
    assert told.out == ""
    assert "9/9" in told.err
    assert "9 records, 0 rejects, 9 requests, $45.00" in told.err.replace("\n", " ")


def test_it_runs_side_by_side_but_not_more_than_asked(tmp_path):
    class Together(Scripted):
        """Answers nobody before five ask at once."""

        async def __call__(self, question, *, key):
            self.full = getattr(self, "full", None) or asyncio.Event()
            self.here = getattr(self, "here", 0) + 1
            if self.here == 5:
                self.full.set()
            await asyncio.wait_for(self.full.wait(), 20)
            return await super().__call__(question, key=key)

    annotator = Together(lambda question, _: answer(question))
    config = AnnotateConfig(images="-", annotator=AnnotatorConfig(name="scripted"))
    summary = annotate(
        config,
        tmp_path / "out",
        RunConfig(concurrency=5),
        annotators=[annotator],
        source=Pictures(60),
        prepare=prepare,
    )
    assert summary.totals.records == 60
    assert annotator.most <= 5
    assert annotator.closed


def test_a_second_run_asks_nothing(tmp_path):
    run(tmp_path, lambda question, _: answer(question))
    before = stored(tmp_path, "record")
    summary, (annotator,) = run(tmp_path, lambda question, _: answer(question), 23)
    assert {item for item, _ in annotator.asked} == set(Pictures(23).ids[20:])
    assert (summary.skipped, summary.totals.records, summary.totals.sent) == (20, 23, 23)
    assert stored(tmp_path, "record")[:20] == before


def test_another_configuration_is_refused(tmp_path):
    run(tmp_path, lambda question, _: answer(question), 2)
    other = AnnotateConfig(images="-", annotator=AnnotatorConfig(name="scripted"), shard_size=8, min_face=99)
    with pytest.raises(
        ConfigError, match=r"begun with another configuration\n.*min_face: 99\n.*min_face: 40"
    ):
        run(tmp_path, lambda question, _: answer(question), config=other)


def test_prices_endpoint_and_deny_list_may_change(tmp_path):
    def config(**changes):
        options = {"model": "m", "endpoint": changes.pop("endpoint", "http://a.example/v1")}
        return AnnotateConfig(
            images="-", annotator=AnnotatorConfig(options=options, **changes), deny_list=None
        )

    first = config().binding("h")
    assert config(endpoint="http://b.example/v1", price_in=1.0).binding("h") == first
    assert config().model_copy(update={"deny_list": "d.txt"}).binding("h") == first
    assert config().binding("other prompt") != first


def test_two_runs_at_once_are_refused(tmp_path):
    inside, go = threading.Event(), threading.Event()

    def script(question, _):
        inside.set()
        go.wait(10)
        return answer(question)

    thread = threading.Thread(target=lambda: run(tmp_path, script, 1))
    thread.start()
    inside.wait(10)
    try:
        with pytest.raises(ConfigError, match="another process is at work"):
            run(tmp_path, script, 1)
    finally:
        go.set()
        thread.join()
    assert len(stored(tmp_path, "record")) == 1


def test_an_id_that_comes_twice_is_asked_once(tmp_path):
    source = Pictures(10)
    source.ids = source.ids + source.ids
    config = AnnotateConfig(images="-", annotator=AnnotatorConfig(name="scripted"))
    annotator = Scripted(lambda question, _: answer(question))
    summary = annotate(config, tmp_path / "out", annotators=[annotator], source=source, prepare=prepare)
    assert (len(annotator.asked), summary.totals.records, summary.skipped) == (10, 10, 10)


def test_a_bad_answer_is_asked_again_once_with_what_is_wrong(tmp_path):
    def script(question, times):
        if times == 1:
            return answer(question, attributes={})
        ((said, wrong),) = question.turns
        assert json.loads(said)["attributes"] == {}
        assert "attributes.5_o_clock_shadow: Field required" in wrong
        return answer(question)

    summary, _ = run(tmp_path, script, 3)
    assert all(record["provenance"]["repaired"] for record in stored(tmp_path, "record"))
    assert all(record["provenance"]["tokens_in"] == 200 for record in stored(tmp_path, "record"))
    assert summary.totals.sent == 6


def test_a_caption_with_an_unasked_trait_is_asked_for_again_and_never_stored(tmp_path):
    def script(question, _):
        if question.turns and question.item != "p/0001":
            assert "the caption says 'bride'" in question.turns[0][1]
            return answer(question)
        return answer(question, caption="The bride smiles and looks at the camera.")

    run(tmp_path, script, 3)
    assert [record["caption"] for record in stored(tmp_path, "record")] == [CAPTION] * 2
    assert [reject["reason"] for reject in stored(tmp_path, "reject")] == ["unasked_trait"]


@pytest.mark.parametrize(
    ("bad", "reason", "requests"),
    [
        (Reply("no JSON at all", tokens_in=7), "not_json", 2),
        (Reply('{"caption": "A', finish="length", tokens_in=7), "cut", 2),
        (Reply(None, refusal="I can't describe people.", tokens_in=7), "refused", 1),
        (Reply(None, finish="content_filter", tokens_in=7), "refused", 1),
        (Unusable("http 400", "the picture is too large"), "request_refused", 1),
    ],
)
def test_a_picture_that_gets_no_good_answer_is_rejected_and_paid_for(tmp_path, bad, reason, requests):
    def script(question, _):
        return bad if question.item == "p/0001" else answer(question)

    summary, (annotator,) = run(tmp_path, script, 4)
    (reject,) = stored(tmp_path, "reject")
    assert (reject["id"], reject["reason"], reject["requests"]) == ("p/0001", reason, requests)
    assert reject["tokens_in"] == (7 * requests if isinstance(bad, Reply) else 0)
    assert sum(item == "p/0001" for item, _ in annotator.asked) == requests
    assert summary.totals.rejects == {reason: 1}
    assert summary.totals.records == 3


@pytest.mark.parametrize(
    "trouble", [Busy("http 429", after=0.01), Busy("http 500"), NoAnswer("timeout"), "hang"]
)
def test_trouble_is_waited_out_under_the_same_key(tmp_path, trouble):
    summary, (annotator,) = run(
        tmp_path, lambda question, times: trouble if times < 3 else answer(question), 2,
        patience=QUICK.model_copy(update={"timeout": 0.05}),
    )  # fmt: skip
    assert summary.totals.records == 2
    keys = {item: {key for other, key in annotator.asked if other == item} for item in Pictures(2).ids}
    assert [len(of_item) for of_item in keys.values()] == [1, 1]
    assert summary.totals.sent == 6
    assert summary.totals.answered == {"answer": 2}
    silent = not isinstance(trouble, Busy)
    assert summary.totals.unanswered == (4 if silent else 0)
    assert sum(summary.totals.busy.values()) == (0 if silent else 4)


def test_retry_after_is_heeded_and_bounded():
    rng = random.Random(0)
    assert Patience().wait(1, 30.0, rng) == 30.0
    assert Patience().wait(1, 3000.0, rng) == 60.0
    waits = [Patience(longest_wait=1e9).wait(tries, None, rng) for tries in range(1, 8)]
    assert all(0.25 * 2**n <= wait <= 0.5 * 2**n for n, wait in enumerate(waits))


def test_one_picture_that_breaks_the_server_is_rejected(tmp_path):
    def script(question, _):
        return Busy("http 500") if question.item == "p/0002" else answer(question)

    summary, _ = run(tmp_path, script, 8)
    assert summary.totals.rejects == {ENDPOINT_FAILED: 1}
    assert summary.totals.records == 7


def test_a_server_that_is_down_stops_the_run_and_costs_no_picture(tmp_path):
    with pytest.raises(FaceMLLMError, match="gives no usable replies"):
        run(tmp_path, lambda question, _: NoAnswer("connection lost"), 30, give_up_after=6)
    assert stored(tmp_path, "reject") == []
    summary, _ = run(tmp_path, lambda question, _: answer(question), 30)
    assert (summary.totals.records, summary.totals.rejects) == (30, {})


def test_a_server_that_takes_no_request_stops_the_run_and_costs_no_picture(tmp_path):
    """As one that knows no structured output: a status of 400 for every picture."""
    with pytest.raises(FaceMLLMError, match="gives no usable replies"):
        run(tmp_path, lambda question, _: Unusable("http 400", "no such field"), 30, give_up_after=6)
    assert stored(tmp_path, "reject") == []
    summary, _ = run(tmp_path, lambda question, _: answer(question), 30)
    assert (summary.totals.records, summary.totals.rejects) == (30, {})
    assert {name: n for name, n in summary.totals.answered.items() if n} == {"answer": 30}


def test_a_wrong_key_stops_the_run_at_once(tmp_path):
    refuse = FaceMLLMError(
        "the endpoint refuses to answer", given="http 401", expected="a key", do="check it"
    )
    with pytest.raises(FaceMLLMError, match="refuses to answer"):
        run(tmp_path, lambda question, _: refuse, 30)


def test_a_budget_ends_the_run_cleanly_and_a_larger_one_goes_on(tmp_path):
    each = (100 * 10 + 50 * 100) / 1e6
    summary, _ = run(tmp_path, lambda question, _: answer(question), 40, budget=Budget(usd=10.5 * each))
    assert summary.stopped == "budget"
    assert summary.totals.usage.cost <= 10.5 * each
    assert summary.totals.records == 10
    assert summary.totals.sent == summary.totals.records, "what was begun was finished"
    summary, _ = run(tmp_path, lambda question, _: answer(question), 40, budget=Budget(images=25))
    assert (summary.stopped, summary.totals.records) == ("limit", 25)
    summary, _ = run(tmp_path, lambda question, _: answer(question), 40)
    assert (summary.stopped, summary.totals.records) == (None, 40)


def test_second_opinions_and_agreement(tmp_path):
    def other(question, _):
        if question.item == "p/0003":
            return Reply("no JSON")
        reply = answer(question)
        if int(question.item[-1]) % 2:
            return reply
        value = json.loads(reply.text)
        value["attributes"]["bald"] = "yes" if value["attributes"]["bald"] != "yes" else "no"
        return Reply(json.dumps(value), tokens_in=1, tokens_out=1)

    summary, _ = run(tmp_path, lambda question, _: answer(question), 20, second=other)
    records = {record["id"]: record for record in stored(tmp_path, "record")}
    assert len(records) == 20
    assert records["p/0003"]["opinions"][0]["rejected"] == "not_json"
    assert records["p/0001"]["opinions"][0]["agreement"] == 1.0
    assert records["p/0002"]["opinions"][0]["agreement"] == pytest.approx(39 / 40)
    assert records["p/0002"]["opinions"][0]["provenance"]["model"] == "script-2"
    scores = summary.agreement["1"]["attributes"]
    assert scores["smiling"] == {"n": 19, "same": 1.0, "kappa": 1.0}
    assert scores["bald"]["same"] == round(9 / 19, 4)
    assert scores["bald"]["kappa"] < 0.5
    assert json.loads((tmp_path / "out" / "agreement.json").read_text()) == summary.agreement


def test_a_reply_that_came_before_the_run_ended_is_used_by_the_next(tmp_path):
    """The first annotator has answered when the second ends the run; nobody pays for that twice."""
    down = FaceMLLMError("the endpoint refuses to answer", given="http 401", expected="a key", do="check it")
    with pytest.raises(FaceMLLMError, match="refuses to answer"):
        run(tmp_path, lambda question, _: answer(question), 1, second=lambda question, _: down)
    assert stored(tmp_path, "record") == []
    summary, (first, second) = run(
        tmp_path, lambda question, _: answer(question), 1, second=lambda question, _: answer(question)
    )
    assert (len(first.asked), len(second.asked)) == (0, 1)
    (record,) = stored(tmp_path, "record")
    assert (record["provenance"]["tokens_in"], record["provenance"]["requests"]) == (100, 1)
    assert summary.totals.usage.tokens_in == 200


def test_preparing_may_reject_or_break_without_ending_the_run(tmp_path):
    def uneven(item):
        if item.id.endswith("1"):
            return Rejection("no_face")
        if item.id.endswith("2"):
            raise RuntimeError("a decoder's own trouble")
        return prepare(item)

    config = AnnotateConfig(images="-", annotator=AnnotatorConfig(name="scripted"))
    annotator = Scripted(lambda question, _: answer(question))
    summary = annotate(config, tmp_path / "out", annotators=[annotator], source=Pictures(10), prepare=uneven)
    assert summary.totals.rejects == {"no_face": 1, "unreadable": 1}
    assert summary.totals.records == 8


def test_a_shard_cut_short_by_a_kill_is_written_again_whole(tmp_path):
    """As after a kill between numbering a shard and letting go of its bodies."""
    run(tmp_path, lambda question, _: answer(question), 6)
    (shard,) = (tmp_path / "out").glob("records-*.jsonl")
    whole = shard.read_text()
    with sqlite3.connect(tmp_path / "out" / "ledger.sqlite") as ledger:
        for number, line in enumerate(whole.splitlines(), start=1):
            ledger.execute("INSERT INTO bodies VALUES (?, 'record', 0, ?, NULL)", (number, line))
    shard.write_text(whole[:50])
    summary, (annotator,) = run(tmp_path, lambda question, _: answer(question), 6)
    assert shard.read_text() == whole
    assert annotator.asked == []
    assert summary.totals.records == 6


def test_webdataset_shards(tmp_path):
    config = AnnotateConfig(
        images="-",
        annotator=AnnotatorConfig(name="scripted"),
        format="webdataset",
        keep_crops=True,
        shard_size=5,
    )
    run(tmp_path, lambda question, _: answer(question), 8, config=config)
    shards = sorted((tmp_path / "out").glob("records-*.tar"))
    assert [shard.name for shard in shards] == ["records-00000.tar", "records-00001.tar"]
    with tarfile.open(shards[0]) as tar:
        assert len(tar.getnames()) == 15
        key = tar.getnames()[0].partition(".")[0]
        read = {ending: tar.extractfile(f"{key}.{ending}").read() for ending in ("json", "txt", "jpg")}
    record = Annotation.model_validate_json(read["json"])
    assert (read["txt"].decode(), read["jpg"].decode()) == (CAPTION, record.id)


def test_replay_says_again_what_was_recorded(tmp_path, portrait):
    run(tmp_path, lambda question, _: answer(question), 5)
    before = {record["id"]: record["attributes"] for record in stored(tmp_path, "record")}
    replay = create_annotator("replay", path=str(tmp_path / "out" / "records-*.jsonl"))
    config = AnnotateConfig(images="-", annotator=AnnotatorConfig(name="replay"))
    annotate(config, tmp_path / "again", annotators=[replay], source=Pictures(6), prepare=prepare)
    lines = [
        json.loads(line) for line in (tmp_path / "again" / "records-00000.jsonl").read_text().splitlines()
    ]
    assert {record["id"]: record["attributes"] for record in lines} == before
    (reject,) = map(json.loads, (tmp_path / "again" / "rejects-00000.jsonl").read_text().splitlines())
    assert (reject["id"], reject["reason"]) == ("p/0005", "not_recorded")
    (tmp_path / "bad.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(DatasetError, match="a line is no recorded answer"):
        create_annotator("replay", path=tmp_path / "bad.jsonl")
    with pytest.raises(DatasetError, match="no recorded answers"):
        create_annotator("replay", path=tmp_path / "none-*.jsonl")


def test_the_built_in_model_annotates_here(tmp_path, portrait):
    """It knows few attributes, so most are "not visible"; the record is a whole one all the same."""
    pytest.importorskip("onnxruntime", reason="needs facemllm[detect]")
    config = AnnotateConfig(
        images=portrait,
        include=("gender",),
        attributes=("smiling", "bald", "eyeglasses"),
        annotator=AnnotatorConfig(name="local", options={"model": "facemllm-tiny"}, terms="research only"),
    )
    summary = annotate(config, tmp_path / "out")
    ends = stored(tmp_path, "record") + stored(tmp_path, "reject")
    assert len(ends) == summary.totals.images == 1
    (record,) = stored(tmp_path, "record")
    assert set(record["attributes"]) == {"smiling", "bald", "eyeglasses"}
    assert record["labels"]["gender"] in ("male", "female", "not visible")
    assert record["face"]["score"] > 0.5


def test_names_and_instances(monkeypatch):
    assert {"openai", "local", "replay"} <= set(ANNOTATORS.names())
    made = Scripted(None)
    assert create_annotator(made) is made
    with pytest.raises(RegistryError, match="did you mean openai"):
        create_annotator("opnai")
    with pytest.raises(ConfigError, match="cannot use an annotator"):
        create_annotator(made, model="x")
    with pytest.raises(ConfigError, match="cannot build the annotator 'replay'"):
        create_annotator("replay", file="x")


def test_a_dry_run_asks_nobody_and_tells_the_cost():
    def some(item):
        return Rejection("no_face") if item.id.endswith("0") else prepare(item)

    pytest.importorskip("openai", reason="needs facemllm[annotate]")
    options = {"model": "m", "endpoint": "http://localhost:1/v1"}
    asked = AnnotatorConfig(options=options, price_in=1.0, price_out=4.0)
    config = AnnotateConfig(images="-", annotator=asked)
    report = dry_run(config, sample=20, source=Pictures(1000), prepare=some)
    assert (report["images"], report["tried"], report["rejects"]) == (1000, 20, {"no_face": 2})
    estimate = report["estimate"]
    assert estimate["asked"] == 900
    assert estimate["usd"] == pytest.approx(
        (estimate["tokens_in"] + 4 * estimate["tokens_out"]) / 1e6, rel=0.01
    )
    free = AnnotateConfig(images="-", annotator=AnnotatorConfig(options=options))
    assert dry_run(free, source=Pictures(5), prepare=some)["estimate"]["usd"] is None


def test_instances_do_not_go_to_ray(tmp_path):
    with pytest.raises(ConfigError, match="cannot send instances to Ray workers"):
        annotate(AnnotateConfig(images="-"), tmp_path, RunConfig(ray="local"), source=Pictures(1))


def test_the_preparer_names_a_missing_detector():
    with pytest.raises(RegistryError, match="unknown detector"):
        FacePreparer(detector="centreface")
