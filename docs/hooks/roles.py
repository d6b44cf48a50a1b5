"""Shows cross references of docstrings (``:class:`facemllm.Answer```) as code, without their role."""

import re

_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):<code>(~?)([\w.]+)</code>")


def on_page_content(html: str, **_: object) -> str:
    """Replace the roles on a page; a tilde shortens a name to its last part, as in Sphinx."""
    return _ROLE.sub(lambda found: f"<code>{_shown(*found.groups())}</code>", html)


def _shown(tilde: str, name: str) -> str:
    return name.rpartition(".")[2] if tilde else name
