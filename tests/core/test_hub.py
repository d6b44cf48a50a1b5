"""Names of models are judged before anything is imported or fetched."""

import logging
import os
import re
import subprocess
import sys

import pytest

from facemllm.core.errors import CheckpointError
from facemllm.core.hub import BUILT_IN, check_model_name
from facemllm.model import AutoFaceMLLM


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nosuch", r"'nosuch', which is neither built in(?s:.)*\(facemllm-tiny\)(?s:.)*one of these"),
        ("facemllm-tny", r"did you mean facemllm-tiny"),
        ("./no/such", r"'\./no/such', which is no folder"),
        ("a/b/c", r"'a/b/c', which is no folder"),
        ("", r"'' as a name"),
        (None, r"None as a name"),
        (5, r"5 as a name"),
    ],
)
def test_what_can_be_no_model_is_refused_at_once(name, said, online, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=said):
        check_model_name(name)


def test_a_file_or_a_folder_without_a_model(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="is a file"):
        check_model_name(tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        check_model_name(tmp_path)
    (tmp_path / "config.json").touch()
    check_model_name(tmp_path)


def test_an_id_is_refused_only_where_the_hub_may_not_be_asked(online, monkeypatch, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="facemllm"):
        check_model_name("some/model", cache_dir=tmp_path)
    assert "some/model is neither built in nor a folder: asking https://" in caplog.text
    with pytest.raises(CheckpointError, match="nothing is kept here"):
        check_model_name("some/model", cache_dir=tmp_path, local_files_only=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="nothing is kept here"):
        check_model_name("some/model", cache_dir=tmp_path)


def test_an_id_that_is_kept_here_is_let_through_in_silence(online, tmp_path, caplog):
    commit = "0123456789abcdef0123456789abcdef01234567"
    kept = tmp_path / "models--some--model"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs/main").write_text(commit)
    (kept / "snapshots" / commit).mkdir(parents=True)
    (kept / "snapshots" / commit / "config.json").write_text("{}")
    check_model_name("some/model", cache_dir=tmp_path)
    check_model_name("some/model", cache_dir=tmp_path, local_files_only=True)
    assert caplog.text == ""


def test_the_built_in_models_are_those_that_load():
    assert AutoFaceMLLM.built_in() == BUILT_IN
    for name in BUILT_IN:
        check_model_name(name)


def test_the_command_refuses_before_it_loads_libraries(portrait):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "facemllm.cli.main", "ask", portrait, "?", "-m", "nosuch"],
        capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "0"}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "facemllm-tiny" in done.stderr
    assert "Traceback" not in done.stderr
    loaded = set(re.findall(r"\|\s+(\S+)$", done.stderr, re.MULTILINE))
    assert "facemllm.core.hub" in loaded  # so that the report is read as it is written
    assert not {"torch", "transformers"} & loaded
