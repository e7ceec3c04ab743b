"""Links from names to their pages, without markup: docstrings and pages read well as they are.

- In a page, the code span ``oc.optim.Adam`` is a link, and one that names nothing is a warning, so an error of `make
  docs`.
- In a docstring, a name in single backticks is a link where it is a public name of the library: of its class, of its
  module, or the only one that ends so. Else it is code.
- In a docstring, ``|`` is that of a formula. In reStructuredText a pair of them would be a substitution.
"""

import re

from docutils import nodes
from docutils.parsers.rst import roles
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.util.nodes import make_refnode

__all__ = ["CodeSpans", "name_role", "only_own", "plain", "resolve", "setup"]


class CodeSpans(SphinxTransform):
    """Make a reference of every code span that starts with ``oc.``."""

    default_priority = 500

    def apply(self):
        """Wrap each such span that stands in no link and no heading."""
        for span in list(self.document.findall(nodes.literal)):
            inside = isinstance(span.parent, (nodes.reference, nodes.title, addnodes.pending_xref))
            if span.astext().startswith("oc.") and span.astext().replace(".", "").isidentifier() and not inside:
                span.replace_self(_reference(span.astext(), self.env, [], warn=True))


def name_role(name, rawtext, text, lineno, inliner, options=None, content=()):
    """Make a reference of a name in single backticks, with where it stands: class, then module."""
    env = inliner.document.settings.env
    place = [env.ref_context.get("py:module"), env.ref_context.get("py:class")]
    scopes = [".".join(place), place[0]] if all(place) else place[:1]
    return [_reference(text, env, [scope for scope in scopes if scope], warn=text.startswith("optcore."))], []


def _reference(text, env, scopes, warn):
    reference = addnodes.pending_xref(text, nodes.literal(text, text), reftype="name", reftarget=text, refwarn=warn,
                                      refdomain="", refdoc=env.docname)
    reference["scopes"] = scopes
    return reference


def resolve(app, env, node, content):
    """Return the link to what a name means."""
    if node["reftype"] != "name":
        return None
    objects = env.domains["py"].objects
    name = node["reftarget"]
    candidates = [f"{scope}.{name}" for scope in node["scopes"]] + [name, f"optcore.{name.removeprefix('oc.')}"]
    found = [key for key in candidates if key in objects] or [key for key in objects if key.endswith(f".{name}")]
    if found and (found[0] in candidates or len(found) == 1):
        entry = objects[found[0]]
        return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, found[0])
    return None if node["refwarn"] else content


def plain(app, what, name, obj, options, lines):
    """Escape the bars of formulas in a docstring, outside code and examples; drop numpydoc's links of attributes."""
    example = False
    for i, line in enumerate(lines):
        line = re.sub(r"^:obj:`(\w+) <[^>]*>`", r"**\1**", line)
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            parts = line.split("``")
            parts[::2] = [text.replace("|", r"\|") for text in parts[::2]]
            line = "``".join(parts)
        lines[i] = line


def only_own(app, what, name, obj, skip, options):
    """Skip the methods that another library put into a class."""
    module = getattr(obj, "__module__", None)
    return True if isinstance(module, str) and not module.startswith("optcore") else None


def setup(app):
    """Register them."""
    app.add_transform(CodeSpans)
    roles.register_local_role("name", name_role)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", plain)
    app.connect("autodoc-skip-member", only_own)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
