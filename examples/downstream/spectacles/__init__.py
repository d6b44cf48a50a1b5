"""A downstream project: recognise spectacles with parts of facemllm and one of its own."""

KINDS = ("none", "clear", "dark")
