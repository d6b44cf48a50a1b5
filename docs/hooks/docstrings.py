"""Tells griffe what our docstrings mean: ``Example:`` is code that runs, and roles of Sphinx are names."""

import re

from griffe import Extension, GriffeLoader, Object

_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`(~?)([\w.]+)`")


class HouseStyle(Extension):
    """Rewrites docstrings before they are parsed."""

    def on_object(self, *, obj: Object, loader: GriffeLoader, **_: object) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring:
            text = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = _ROLE.sub(lambda role: f"`{_shown(*role.groups())}`", text)


def _shown(tilde: str, name: str) -> str:
    return name.rpartition(".")[2] if tilde else name
