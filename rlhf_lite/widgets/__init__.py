"""Hands on: write demonstrations, rank answers, compare policies, look inside a sample.

The sessions (`session`, `demonstration_session`) hold all the logic and know no widget; `ranking`, `demonstrations`
and `compare` put stock ipywidgets on top; `keys` adds hotkeys where anywidget is installed. Nothing is imported
here, so that a session starts without PyTorch and without ipywidgets.
"""
