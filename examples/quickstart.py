"""Ask the built-in model about a portrait: a question, two questions at once, a choice, a description.

python examples/quickstart.py [photo.jpg]
"""

import sys
from importlib.resources import files

from facemllm import AutoFaceMLLM

photo = sys.argv[1] if len(sys.argv) > 1 else str(files("facemllm") / "assets" / "portrait.jpg")
model = AutoFaceMLLM.from_pretrained("facemllm-tiny")

answer = model.ask(photo, "What is the expression of this person?")
print(f"expression: {answer.text} (confidence {answer.confidence:.2f})")

# The photo is encoded once, whatever the number of questions.
age, pose, unknown = model.ask(
    photo, ["How old is this person?", "What is the head pose?", "What is this person's phone number?"]
)
print(f"age: {age.text}")
print(f"head pose: {pose.text}")
print(f"phone number: {unknown.text}")

probabilities = model.choose(photo, "What is the expression of this person?", ["happy", "sad", "angry"])
print("choice:", ", ".join(f"{option} {share:.2f}" for option, share in probabilities.items()))

print(f"description: {model.describe(photo).text}")
