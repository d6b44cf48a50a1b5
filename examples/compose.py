"""Build face MLLMs from parts: every encoder with every connector, run once, saved, and loaded again.

Run it with ``python examples/compose.py``. Nothing is downloaded: the encoders have fresh weights, and the
language model is made from a few lines of text. With a network, name real ones:
create_encoder("timm/vit_small_patch16_224", pretrained=True) and
load_language_model("HuggingFaceTB/SmolLM2-135M-Instruct").
"""

import tempfile
from importlib.resources import files

import torch
from transformers.utils.logging import disable_progress_bar

from facemllm import AutoFaceMLLM, FaceMLLM, create_connector, create_encoder
from facemllm.language import tiny_language_model

PHOTO = str(files("facemllm") / "assets" / "portrait.jpg")
QUESTION = "How old is this person?"

ENCODERS = {
    "timm/vit_tiny_patch16_224": {"image_size": 64, "layer": -2},
    "dlib-face": {"image_size": 112},
    "region-guided": {"base": "timm/resnet10t", "image_size": 128, "regions": ["eyes", "mouth"]},
}
CONNECTORS = {
    "mlp": {},
    "qformer": {"num_queries": 8, "width": 64, "layers": 2, "heads": 4},
    "resampler": {"num_queries": 8, "layers": 1, "heads": 4},
}


def logits(model: FaceMLLM) -> torch.Tensor:
    """Return the model's scores of the first word of its answer about the photo [V]."""
    batch = model.processor(images=[PHOTO], text=[QUESTION])
    with torch.no_grad():
        return model(**batch).logits[0, -1]


def main() -> None:
    disable_progress_bar()
    for encoder_name, encoder_options in ENCODERS.items():
        for connector_name, connector_options in CONNECTORS.items():
            encoder = create_encoder(encoder_name, **encoder_options)
            llm = tiny_language_model([QUESTION, "34"], hidden_size=48, layers=1, heads=4, vocab_size=512)
            connector = create_connector(
                connector_name, in_dim=encoder.embed_dim, out_dim=llm.embed_dim, **connector_options
            )
            model = FaceMLLM.from_parts(encoder=encoder, connector=connector, language_model=llm)
            with tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder)
                again = AutoFaceMLLM.from_pretrained(folder)
            loaded = "equal" if torch.equal(logits(model), logits(again)) else "DIFFERENT"
            print(
                f"{encoder_name:26} {encoder.num_tokens:3} tokens -> {connector_name:9} -> "
                f"{model.config.image_tokens:2} in the language model; loaded again: {loaded}"
            )


if __name__ == "__main__":
    main()
