"""Formulae as MathML, which every current browser draws itself: no script, no font, no network.

The converter is docutils' own. Sphinx brings renderers for MathJax, a script of megabytes that its pages load from
elsewhere, and for images, which need a LaTeX installation.
"""

from docutils.utils.math.latex2mathml import tex2mathml

__all__ = ["setup"]


def setup(app):
    """Register the renderer and make it the one of the site."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(writer, node):
    writer.body.append(tex2mathml(node.astext(), as_block=False))
    _done()


def _block(writer, node):
    writer.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')
    _done()


def _done():
    from docutils import nodes

    raise nodes.SkipNode
