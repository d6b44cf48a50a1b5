"""How attributes are spoken of: "is wearing a hat", "has bangs"."""

from __future__ import annotations

from facemllm.data.phrasings import question_set

SUBJECTIVE = frozenset({"attractive"})
"""Attributes that judge a person rather than describe a face; no question or caption is written of them."""


def predicate(attribute: str) -> tuple[str, str]:
    """Return the verb of an attribute, "be" or "have", and what follows it.

    An attribute without an entry in ``questions/attributes.yaml`` is spoken of by its name.

    Example:
        >>> predicate("eyeglasses"), predicate("wearing_scarf"), predicate("dimples")
        (('be', 'wearing eyeglasses'), ('be', 'wearing scarf'), ('have', 'dimples'))
    """
    words = question_set("attributes").words.get(attribute)
    if words:
        return next(iter(words.items()))
    text = attribute.replace("_", " ").lower()
    return ("be" if text.startswith("wearing ") else "have"), text


def third_person(attribute: str) -> str:
    """Return what is said of a person who has the attribute.

    Example:
        >>> third_person("bangs"), third_person("wearing_hat")
        ('has bangs', 'is wearing a hat')
    """
    verb, rest = predicate(attribute)
    return f"{'is' if verb == 'be' else 'has'} {rest}"


def slots(attribute: str) -> dict[str, str]:
    """Return what the templates of attribute questions are filled with.

    Example:
        >>> "{aux} the person {rest}?".format(**slots("bangs"))
        'Does the person have bangs?'
    """
    verb, rest = predicate(attribute)
    aux, rest = ("Is", rest) if verb == "be" else ("Does", f"have {rest}")
    return {"aux": aux, "aux_lower": aux.lower(), "rest": rest, "third": third_person(attribute)}
