"""A task head on a frozen encoder, trained in seconds."""

from collections.abc import Sequence

import torch
from torch import Tensor

from facemllm import AutoFaceMLLM, FaceMLLM
from facemllm.language import tiny_language_model
from spectacles import KINDS
from spectacles.pictures import Picture

HEAD = "spectacles"


def build(model: str) -> FaceMLLM:
    """Return a model with an untrained head for spectacles.

    Args:
        model: "handmade" to compose one around this package's encoder, or what ``AutoFaceMLLM`` loads.
    """
    torch.manual_seed(0)
    if model == "handmade":
        # The encoder is found by its name, through the entry point. The language model is only there to make
        # the model whole; a real project would name one here.
        llm = tiny_language_model([HEAD], hidden_size=32, layers=1, heads=2, vocab_size=512)
        built = FaceMLLM.from_parts(encoder="handmade", connector="mlp", language_model=llm)
    else:
        built = AutoFaceMLLM.from_pretrained(model)
    built.add_head(HEAD, "classification", classes=list(KINDS), dropout=0.2)
    return built


@torch.inference_mode()
def features_of(model: FaceMLLM, pictures: Sequence[Picture]) -> Tensor:
    """Return the encoder's features [B, N, D], of the crops that ``model.predict`` makes."""
    crops = [model.processor.crop(picture.image, picture.box).image for picture in pictures]
    return model.encoder(model.processor.pixels(crops))


def train(model: FaceMLLM, pictures: Sequence[Picture], *, steps: int = 200, lr: float = 0.01) -> list[float]:
    """Train the head alone, on features that are computed once, and return the losses."""
    head = model.heads[HEAD]
    features = features_of(model, pictures).clone()
    labels = torch.tensor([KINDS.index(picture.kind) for picture in pictures])
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=0.1)
    losses = []
    head.train()
    for _ in range(steps):
        loss = head.loss(head(features), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    head.eval()
    return losses


def check(model: FaceMLLM, pictures: Sequence[Picture]) -> tuple[int, int]:
    """Return how many pictures the head has right, and of how many."""
    head = model.heads[HEAD]
    with torch.inference_mode():
        said = head.predict(head(features_of(model, pictures)))
    return sum(a == picture.kind for a, picture in zip(said, pictures, strict=True)), len(pictures)
