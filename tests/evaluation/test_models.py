"""Models that are measured beside a FaceMLLM: constants, specialists, endpoints, transformers models."""

import base64
import importlib.util
import io
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from facemllm.core.errors import ConfigError, FaceMLLMError
from facemllm.data import canonical_question
from facemllm.evaluation import evaluate
from facemllm.evaluation.baselines import Specialist
from facemllm.evaluation.models import EVALUATED, resolve_model

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
_oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_oracle)


@pytest.fixture
def samples(tmp_path):
    labels = [
        {"expression": "happy" if i % 4 else "sad", "age": 20 + i, "pose": {"pan": i - 10, "tilt": 5}}
        for i in range(20)
    ]
    return _oracle.make_samples(tmp_path, labels)


def test_constants_are_the_best_in_hindsight(samples):
    tasks = evaluate("majority", samples, progress=False).tasks
    assert tasks["expression"]["accuracy"] == 0.75
    assert tasks["expression"]["balanced_accuracy"] == 0.5
    medians = evaluate("median", samples, progress=False).tasks
    for constant in range(10, 50):  # no other constant is better
        off = sum(abs(sample.labels["age"] - constant) for sample in samples) / len(samples)
        assert medians["age"]["mae"] <= off
    assert medians["pose"]["mae_tilt"] == 0


def test_a_specialist_answers_what_it_knows(samples):
    model = Specialist(lambda picture: {"age": float(picture.getpixel((0, 0))[0])}, name="red 1.0")
    tasks = evaluate(model, samples, progress=False).tasks
    assert tasks["age"]["mae"] == 20
    assert tasks["expression"]["refused"] == len(samples)


def test_plug_ins_are_found_by_name(samples):
    EVALUATED.register("test-red")(lambda: Specialist(lambda picture: {"age": 1}, name="red"))
    assert isinstance(resolve_model("test-red"), Specialist)
    with pytest.raises(ConfigError, match="cannot tell model and address apart"):
        resolve_model("openai:http://localhost")


# --- an endpoint: a real server on loopback


class Server(ThreadingHTTPServer):
    """Answers chat completions from labels that it tells by the colour of the picture; fails at first."""

    daemon_threads = True

    def __init__(self, samples, faults):
        super().__init__(("127.0.0.1", 0), Handler)
        self.oracle, self.faults, self.requests, self.lock = (
            _oracle.Oracle(samples),
            faults,
            [],
            threading.Lock(),
        )


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((self.path, self.headers["Authorization"], body))
            fault = self.server.faults.pop() if self.server.faults else None
        if fault:
            self._send(fault, {"error": {"message": "busy"}})
            return
        picture, question = body["messages"][0]["content"]
        data = base64.b64decode(picture["image_url"]["url"].partition("base64,")[2])
        image = Image.open(io.BytesIO(data)).convert("RGB")
        nearest = Image.new("RGB", (1, 1), (round(image.getpixel((8, 8))[0] / 10), 0, 7))
        text = self.server.oracle.ask([nearest], [question["text"]])[0][0]
        self._send(200, {
            "id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            ],
        })  # fmt: skip

    def _send(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status == 429:
            self.send_header("Retry-After", "0.05")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve(samples):
    pytest.importorskip("openai")
    servers = []
    for index, sample in enumerate(samples):  # colours that JPEG keeps apart
        Image.new("RGB", (16, 16), (10 * index, 0, 7)).save(sample.image)

    def start(*faults):
        server = Server(samples, list(faults))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_an_endpoint_is_measured_over_http(serve, samples, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-secret")
    server = serve(429, 429)
    name = f"openai:face-model@http://127.0.0.1:{server.server_address[1]}/v1"
    report = evaluate(name, samples, tasks=["expression", "age"], progress=False, output_dir=tmp_path / "out")
    assert report.tasks["expression"]["accuracy"] == 1
    assert report.tasks["age"]["mae"] == 0
    assert len(server.requests) == 2 * 20 + 2
    path, key, body = server.requests[-1]
    assert path == "/v1/chat/completions"
    assert key == "Bearer not-a-secret"
    assert (body["model"], body["temperature"]) == ("face-model", 0.0)
    assert "not-a-secret" not in "".join(p.read_text() for p in (tmp_path / "out").iterdir())
    again = evaluate(name, samples, tasks=["expression", "age"], progress=False, output_dir=tmp_path / "out")
    assert again.tasks == report.tasks
    assert len(server.requests) == 42  # nothing was asked again


@pytest.mark.parametrize("status", [400, 401, 404, 503])
def test_an_outage_stops_the_run_and_is_no_answer(serve, samples, tmp_path, status):
    from facemllm.evaluation.endpoint import EndpointModel

    server = serve(*[status] * 99, *[None] * 4)  # four answers, then the outage
    model = EndpointModel(f"http://127.0.0.1:{server.server_address[1]}/v1", "face-model", retries=0)
    how = {"tasks": ["age"], "progress": False, "batch_size": 2, "output_dir": tmp_path / "out"}
    with pytest.raises(FaceMLLMError, match=rf"refuses to answer\n.*http {status} from 127(?s:.)*busy") as e:
        evaluate(model, samples, **how)
    assert e.value.__cause__ is None
    server.faults.clear()
    server.requests.clear()
    evaluate(model, samples, **how)
    assert len(server.requests) == len(samples) - 4  # what was answered before is kept


def test_an_endpoint_that_nobody_serves_is_told_in_four_parts(samples):
    pytest.importorskip("openai")
    from facemllm.evaluation.endpoint import EndpointModel

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    model = EndpointModel(f"http://me:secret@127.0.0.1:{port}/v1", "gpt", retries=0)
    with pytest.raises(FaceMLLMError, match=rf"cannot be reached\n.*127\.0\.0\.1:{port} for the") as told:
        evaluate(model, samples, tasks=["age"], progress=False)
    assert "secret" not in str(told.value)


# --- any image-text-to-text model of transformers


@pytest.fixture
def chat_folder(tmp_path):
    """A tiny LLaVA with random weights, saved as any checkpoint is."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    words = [
        "<pad>",
        "<unk>",
        "<s>",
        "</s>",
        "<image>",
        "How",
        "old",
        "is",
        "this",
        "person",
        "?",
        "34",
        "happy",
    ]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip
    template = (
        "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>"
        "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}), tokenizer,
        patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=template,
    )  # fmt: skip
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**small, image_size=16, patch_size=8),
        text_config=LlamaConfig(
            **small, vocab_size=len(words), pad_token_id=0, bos_token_id=2, eos_token_id=3
        ),
        image_token_index=4, image_seq_length=4, vision_feature_layer=-1,
    )  # fmt: skip
    folder = tmp_path / "tiny-llava"
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_a_transformers_model_is_asked_through_its_own_template(chat_folder, samples):
    model = resolve_model(f"transformers:{chat_folder}")
    model.max_new_tokens = 3
    image = Image.open(samples[0].image)
    question = canonical_question("age")
    prompt = model.processor(images=image.convert("RGB"), text=f"<image>{question}", return_tensors="pt")
    output = model.model.generate(**prompt, max_new_tokens=3, do_sample=False)[
        0, prompt["input_ids"].shape[1] :
    ]
    expected = model.processor.tokenizer.decode(output, skip_special_tokens=True).strip()
    assert model.ask([image], [question, question]) == [[expected, expected]]
    assert model.fingerprint() == model.fingerprint()
    report = evaluate(model, samples, tasks=["age"], limit=3, progress=False)
    assert report.tasks["age"]["n"] == 3
