"""The annotator for OpenAI-compatible endpoints, against a real server on loopback."""

import asyncio
import json

import pytest

pytest.importorskip("openai", reason="needs facemllm[annotate]")

from facemllm.annotation import (
    AnnotateConfig,
    Annotation,
    AnnotatorConfig,
    Question,
    RunConfig,
    annotate,
    create_annotator,
    load_prompt,
)
from facemllm.core.errors import ConfigError, FaceMLLMError

QUESTION = Question(load_prompt("face"), b"jpeg", "SECRET/42_0_1_2017.jpg")


def asked(annotator, question=QUESTION):
    async def once():
        try:
            return await annotator(question, key="k" * 32)
        finally:
            await annotator.close()

    return asyncio.run(once())


def test_a_reply_has_text_tokens_and_the_server_s_own_name_of_the_model(serve):
    server = serve("--share", "0", "--delay", "0")
    reply = asked(
        create_annotator(
            "openai", model="m", endpoint=server.url, parameters={"top_p": 0.5, "max_tokens": None}
        )
    )
    assert set(json.loads(reply.text)) == {"caption", "attributes"}
    assert (reply.served, reply.finish, reply.tokens_in > 0, reply.tokens_out > 0) == (
        "m-served",
        "stop",
        True,
        True,
    )
    (sent,) = [json.loads(text) for text in server.get("prompts") if text.startswith('{"model"')]
    assert (sent["temperature"], sent["top_p"], "max_tokens" in sent) == (0, 0.5, False)
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert sent["response_format"]["json_schema"]["schema"] == QUESTION.prompt.schema


def test_nothing_known_of_a_picture_is_sent(serve, tmp_path, portrait):
    """Labels stand in file names, sidecars, EXIF and comments of datasets; a server must see none of it."""
    pytest.importorskip("onnxruntime", reason="needs facemllm[detect]")
    from PIL import Image

    folder = tmp_path / "SECRET" / "SECRET_female"
    folder.mkdir(parents=True)
    photo = Image.open(portrait).convert("RGB")
    exif = Image.Exif()
    exif[0x010E] = "SECRET"
    photo.save(folder / "SECRET_42_1.jpg", comment=b"SECRET", exif=exif)
    known = {
        "URL": "https://SECRET.example/SECRET.jpg",
        "TEXT": "SECRET",
        "LICENSE": "SECRET",
        "SAMPLE_ID": "SECRET",
    }
    (folder / "SECRET_42_1.json").write_text(json.dumps(known))
    server = serve("--share", "0")
    config = AnnotateConfig(
        images=str(tmp_path / "SECRET"),
        annotator=AnnotatorConfig(options={"model": "m", "endpoint": server.url}),
        second=(AnnotatorConfig(options={"model": "n", "endpoint": server.url}),),
    )
    summary = annotate(config, tmp_path / "out", RunConfig())
    assert summary.totals.records == 1
    (line,) = (tmp_path / "out" / "records-00000.jsonl").read_text().splitlines()
    record = Annotation.model_validate_json(line)
    assert record.picture.sample_id == "SECRET", "it is known here"
    assert record.opinions[0].provenance.model == "n"
    texts = server.get("prompts")
    assert len(texts) > 3
    assert not [text for text in texts if "SECRET" in text]
    # The check can fail: the server does tell of a secret that it was sent.
    asked(create_annotator("openai", model="SECRET", endpoint=server.url))
    assert [text for text in server.get("prompts") if "SECRET" in text]


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="an endpoint is not an address"):
        create_annotator("openai", model="m", endpoint="localhost:8000")


@pytest.mark.parametrize(("status", "error"), [(401, FaceMLLMError), (404, FaceMLLMError)])
def test_a_refusal_for_all_pictures_is_an_error(status, error):
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"error": {"message": "no"}}'
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        writer.write(body)
        await writer.drain()
        writer.close()

    async def once():
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        annotator = create_annotator("openai", model="m", endpoint=f"http://127.0.0.1:{port}/v1")
        try:
            with pytest.raises(error, match=f"refuses to answer\n.*http {status}"):
                await annotator(QUESTION, key="k")
        finally:
            await annotator.close()
            server.close()

    asyncio.run(once())
