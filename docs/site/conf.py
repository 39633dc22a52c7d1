"""Sphinx's settings for the site; `book.py` prepares the pages and calls Sphinx. Everything a page needs is local.

Why Sphinx with MyST-NB, and the Furo theme: Python's own documentation is made with Sphinx, so it will be kept. Its
pages are plain files whose links, search and pictures work from a folder, and MyST-NB reads executed notebooks and
Markdown alike. Jupyter Book 2 (MyST) needs Node, and a web server to show its pages. MkDocs 1 has had no release since
2024, Material for MkDocs ends on 2027-05-05, and its successor Zensical is at version 0.1.
"""

from importlib.metadata import files

# MathJax in one file that draws SVG: no fonts, no further scripts, nothing from another server.
mathjax = next(file for file in files("sphinx-mathjax-offline") if file.name == "tex-svg-full.js").locate()

project = html_title = "rlhf_lite"
language = "en"
extensions = ["myst_nb", "sphinx.ext.mathjax"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

nb_execution_mode = "off"  # executed.py has run them
nb_merge_streams = True
nb_render_markdown_format = "myst"  # as in the cells: with tables
myst_enable_extensions = ["dollarmath", "html_image"]
myst_disable_syntax = ["myst_line_comment", "myst_block_break", "myst_target", "myst_role"]  # "% of" may begin a line
myst_heading_anchors = 3

html_theme = "furo"
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": [],
                      "light_css_variables": {"color-brand-primary": "#0072B2", "color-brand-content": "#0072B2"},
                      "dark_css_variables": {"color-brand-primary": "#56B4E9", "color-brand-content": "#56B4E9"}}
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"  # come with Furo
html_static_path = ["site.css", str(mathjax)]
html_css_files = ["site.css"]
mathjax_path = "tex-svg-full.js"
html_show_search_summary = False  # pages opened from a folder may not read one another
html_show_sourcelink = html_copy_source = html_show_copyright = html_use_index = False
