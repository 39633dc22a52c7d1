"""HTML pages from templates. All content is escaped, so nothing that a model or a person wrote can run in a page."""

import base64
import io
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template, **content):
    """The text of a page: the template at that path, filled with ``content``; missing content raises an error."""
    template = Path(template)
    loader = FileSystemLoader(template.parent)
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return pages.get_template(template.name).render(content)


def png(figure, dpi):
    """A figure as the bytes of a PNG file; the same figure always gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def data_address(image):
    """A PNG as a URL that contains the image itself, so that a page needs no other file."""
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"
