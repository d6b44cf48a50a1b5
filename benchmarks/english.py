"""Plain English to see whether a language model still speaks it; written for this purpose."""

SENTENCES = (
    "The train to the coast leaves at seven in the morning and arrives before noon.",
    "She opened the window because the kitchen smelled of burnt toast.",
    "Most plants need light, water and a little patience.",
    "When the rain stopped, the children ran back into the garden.",
    "He could not remember where he had left his keys.",
    "A good map tells you what to leave out.",
    "The museum is closed on Mondays, except during the summer holidays.",
    "If you heat water to one hundred degrees at sea level, it boils.",
    "My grandmother kept her letters in a wooden box under the bed.",
    "The committee will decide next week whether the bridge should be repaired.",
    "Bread rises because yeast turns sugar into gas.",
    "They walked along the river until the path disappeared into the trees.",
    "The second half of the book is much better than the first.",
    "Please send me the report as soon as you have finished it.",
    "Although it was late, nobody wanted to go home.",
    "The moon goes around the earth in a little less than a month.",
    "A dog was barking somewhere behind the old factory.",
    "Learning to play the piano takes years, but the first song takes a week.",
    "The price of coffee rose again after the dry summer.",
    "He apologised, paid for the broken glass and left without another word.",
)

# Prompt -> words of which one must be in the answer, in lower case.
PROMPTS = {
    "What is the capital of France?": ("paris",),
    "What colour is the sky on a clear day?": ("blue",),
    "Name an animal that can fly.": ("bird", "eagle", "bat", "butterfly", "bee", "owl", "hawk", "falcon"),
    "What do we call frozen water?": ("ice",),
    "How many days are in a week?": ("seven", "7"),
    "Write one sentence about the sea.": ("sea", "ocean", "wave", "water"),
}
