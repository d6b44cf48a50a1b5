"""The labels that datasets use, by name and version, and what they are called here.

Every dataset names its classes in its own way. A :class:`Vocabulary` lists them in the dataset's own
order (so that index ``i`` is code ``i`` of the dataset) next to the canonical label of this library.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
GENDERS = ("male", "female")
ALL_EXPRESSIONS = (*EXPRESSIONS, "contempt")
"""With contempt, which only some datasets (AffectNet, FER+) have as a class of its own."""
AGE_BINS = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
ETHNICITIES = (
    "white", "black", "east asian", "southeast asian", "asian", "indian", "middle eastern", "latino", "other",
)  # fmt: skip

MAX_AGE = 120
"""Ages above this are typing errors, not people."""


@dataclass(frozen=True)
class Vocabulary:
    """The classes of one dataset, in its own order, each with its canonical label.

    Args:
        name: ``<dataset>-<what>``.
        version: Raised when the mapping changes, so that results can say which one they used.
        codes: What the dataset writes, by class index.
        labels: The canonical label of each code; the same length as ``codes``.

    Example:
        >>> FAIRFACE_AGES.label("more than 70")
        '70+'
        >>> FER2013_EXPRESSIONS[3]
        'happy'
    """

    name: str
    version: int
    codes: tuple[str, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.codes) != len(self.labels) or len(set(self.codes)) != len(self.codes):
            raise AssertionError(f"vocabulary {self.name} must give one label to each of its distinct codes")

    @cached_property
    def _labels(self) -> dict[str, str]:
        return dict(zip(self.codes, self.labels, strict=True))

    def __getitem__(self, index: int) -> str:
        """Return the canonical label of the class with this index."""
        return self.labels[index]

    def __len__(self) -> int:
        return len(self.codes)

    def label(self, code: str) -> str | None:
        """Return the canonical label of what the dataset writes, or None for an unknown code."""
        return self._labels.get(code)

    def index(self, label: str) -> int:
        """Return the dataset's class index of a canonical label."""
        return self.labels.index(label)


FER2013_EXPRESSIONS = Vocabulary("fer2013-expressions", 1, EXPRESSIONS, EXPRESSIONS)
FAIRFACE_AGES = Vocabulary("fairface-ages", 1, (*AGE_BINS[:-1], "more than 70"), AGE_BINS)
FAIRFACE_GENDERS = Vocabulary("fairface-genders", 1, ("Male", "Female"), GENDERS)
FAIRFACE_RACES = Vocabulary(
    "fairface-races", 1,
    ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern"),
    ("white", "black", "latino", "east asian", "southeast asian", "indian", "middle eastern"),
)  # fmt: skip
UTKFACE_GENDERS = Vocabulary("utkface-genders", 1, ("0", "1"), GENDERS)
UTKFACE_RACES = Vocabulary(
    "utkface-races", 1, ("0", "1", "2", "3", "4"), ("white", "black", "asian", "indian", "other")
)

FERPLUS_VOTES = Vocabulary(
    "ferplus-votes", 1,
    ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF"),
    ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt", "unknown", "no face"),
)  # fmt: skip
RAFDB_EXPRESSIONS = Vocabulary(
    "rafdb-expressions", 1, ("1", "2", "3", "4", "5", "6", "7"),
    ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"),
)  # fmt: skip
RAFDB_GENDERS = Vocabulary("rafdb-genders", 1, ("0", "1", "2"), (*GENDERS, "unsure"))
RAFDB_RACES = Vocabulary("rafdb-races", 1, ("0", "1", "2"), ("white", "black", "asian"))
RAFDB_AGES = Vocabulary("rafdb-ages", 1, ("0", "1", "2", "3", "4"), ("0-3", "4-19", "20-39", "40-69", "70+"))
AFFECTNET_EXPRESSIONS = Vocabulary(
    "affectnet-expressions", 1, tuple(str(code) for code in range(11)),
    (
        "neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt",
        "none", "uncertain", "no face",
    ),
)  # fmt: skip
MORPH_GENDERS = Vocabulary("morph-genders", 1, ("M", "F"), GENDERS)
MORPH_RACES = Vocabulary(
    "morph-races", 1, ("W", "B", "A", "H", "I", "O"),
    ("white", "black", "asian", "latino", "other", "other"),
)  # fmt: skip
AGEDB_GENDERS = Vocabulary("agedb-genders", 1, ("m", "f"), GENDERS)

ACTION_UNITS = Vocabulary(
    "facs-action-units", 1,
    (
        "AU1", "AU2", "AU4", "AU5", "AU6", "AU7", "AU9", "AU10", "AU12", "AU14", "AU15", "AU16", "AU17",
        "AU18", "AU20", "AU22", "AU23", "AU24", "AU25", "AU26", "AU27", "AU28", "AU43", "AU45",
    ),
    (
        "inner brow raiser", "outer brow raiser", "brow lowerer", "upper lid raiser", "cheek raiser",
        "lid tightener", "nose wrinkler", "upper lip raiser", "lip corner puller", "dimpler",
        "lip corner depressor", "lower lip depressor", "chin raiser", "lip puckerer", "lip stretcher",
        "lip funneler", "lip tightener", "lip pressor", "lips part", "jaw drop", "mouth stretch", "lip suck",
        "eyes closed", "blink",
    ),
)  # fmt: skip
"""Facial action units by their number in FACS (Ekman and Friesen, 1978), with their names."""
DISFA_UNITS = ("AU1", "AU2", "AU4", "AU5", "AU6", "AU9", "AU12", "AU15", "AU17", "AU20", "AU25", "AU26")
BP4D_UNITS = ("AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU14", "AU15", "AU17", "AU23", "AU24")

_CELEBA = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs",
    "Big_Lips", "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows",
    "Chubby", "Double_Chin", "Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones",
    "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin",
    "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair",
    "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace",
    "Wearing_Necktie", "Young",
)  # fmt: skip
CELEBA_ATTRIBUTES = Vocabulary("celeba-attributes", 1, _CELEBA, tuple(name.lower() for name in _CELEBA))

VOCABULARIES: dict[str, Vocabulary] = {
    vocabulary.name: vocabulary
    for vocabulary in (
        FER2013_EXPRESSIONS, FAIRFACE_AGES, FAIRFACE_GENDERS, FAIRFACE_RACES, UTKFACE_GENDERS, UTKFACE_RACES,
        CELEBA_ATTRIBUTES, FERPLUS_VOTES, RAFDB_EXPRESSIONS, RAFDB_GENDERS, RAFDB_RACES, RAFDB_AGES,
        AFFECTNET_EXPRESSIONS, MORPH_GENDERS, MORPH_RACES, AGEDB_GENDERS, ACTION_UNITS,
    )
}  # fmt: skip
"""All vocabularies by name."""


@dataclass(frozen=True)
class LandmarkScheme:
    """Which points a set of landmarks has, and which of them each part of the face is made of.

    Args:
        name: ``<scheme>-<version>``.
        count: Number of points.
        parts: By part, the indices of its points; left and right are those of the image.
        opposite: For each place, the index of the point that comes there when the picture is mirrored.
    """

    name: str
    count: int
    parts: dict[str, tuple[int, ...]]
    opposite: tuple[int, ...]

    def __post_init__(self) -> None:
        if sorted(self.opposite) != list(range(self.count)):
            raise AssertionError(
                f"the scheme {self.name} must give each of its {self.count} points an opposite"
            )


def _opposites(count: int, *pairs: tuple[int, int]) -> tuple[int, ...]:
    """Return for each of ``count`` points the index of its opposite; points in no pair are their own."""
    found = list(range(count))
    for one, other in pairs:
        found[one], found[other] = other, one
    return tuple(found)


def _outwards(first: int, last: int) -> list[tuple[int, int]]:
    """Pair a row of points from both of its ends: the first with the last, and so on."""
    return [(first + step, last - step) for step in range((last - first + 1) // 2)]


PARTS = ("left eye", "right eye", "left eyebrow", "right eyebrow", "nose", "mouth", "jaw")
"""Parts of a face that can be asked for; left and right are those of the image."""

LANDMARK_SCHEMES: dict[str, LandmarkScheme] = {
    scheme.name: scheme
    for scheme in (
        # Eyes, nose tip, corners of the mouth, each left one in the image first, as detectors give them.
        LandmarkScheme(
            "five-1", 5, {"left eye": (0,), "right eye": (1,), "nose": (2,), "mouth": (3, 4)},
            _opposites(5, (0, 1), (3, 4)),
        ),
        # The 68 points of iBUG 300-W, numbered from 0 here and from 1 there.
        LandmarkScheme(
            "ibug68-1", 68,
            {
                "jaw": tuple(range(17)), "left eyebrow": tuple(range(17, 22)),
                "right eyebrow": tuple(range(22, 27)), "nose": tuple(range(27, 36)),
                "left eye": tuple(range(36, 42)), "right eye": tuple(range(42, 48)),
                "mouth": tuple(range(48, 68)),
            },
            _opposites(
                68,
                *_outwards(0, 16), *_outwards(17, 26), *_outwards(31, 35),  # jaw, eyebrows, nostrils
                (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46),  # eyes
                *_outwards(48, 54), (55, 59), (56, 58), *_outwards(60, 64), (65, 67),  # lips
            ),
        ),
    )
}  # fmt: skip
"""All schemes of landmarks by name."""


def age_bin(age: float) -> str:
    """Return the age bin that an age in years falls into.

    Example:
        >>> age_bin(34), age_bin(2.9), age_bin(88)
        ('30-39', '0-2', '70+')
    """
    return next(name for name in reversed(AGE_BINS) if age >= age_range(name)[0])


def age_range(name: str) -> tuple[int, int]:
    """Return the first and last whole year of an age bin.

    Example:
        >>> age_range("20-29"), age_range("70+")
        ((20, 29), (70, 120))
    """
    if name.endswith("+"):
        return int(name[:-1]), MAX_AGE
    low, high = name.split("-")
    return int(low), int(high)


def rivals(task: str, label: str, dataset: str = "") -> tuple[str, ...]:
    """Return the labels that are certainly wrong when ``label`` is right, in canonical order.

    Ethnicities overlap between datasets (UTKFace's "asian" holds FairFace's "east asian", its "other" holds
    "latino"), so only labels of the same dataset's vocabulary exclude each other.

    Example:
        >>> rivals("gender", "male")
        ('female',)
        >>> "east asian" in rivals("ethnicity", "asian", "utkface")
        False
    """
    if task == "ethnicity":
        races = VOCABULARIES.get(f"{dataset}-races")
        known = races.labels if races else ("white", "black", "indian")
    elif task == "expression" and dataset in ("affectnet", "ferplus"):
        known = ALL_EXPRESSIONS
    else:
        known = {"expression": EXPRESSIONS, "gender": GENDERS, "age_bin": AGE_BINS}[task]
    return tuple(dict.fromkeys(other for other in known if other != label))
