"""Hands on: write demonstrations, rank answers, compare policies, look inside a sample.

The sessions (`session`, `writing`) contain all the logic and no widgets; `ranking`, `demonstrations` and `compare` put
stock ipywidgets on top; `keys` adds hotkeys if anywidget is installed. Nothing is imported here, so that a session
starts without PyTorch and without ipywidgets.
"""
